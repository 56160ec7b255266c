// The live image: the newest one as soon as the one before is shown, never two at once.

import { $ } from "./base.js";

const PAUSE_MS = 60;

let camera = null,
  isBusy = false,
  isWanted = false,
  shownUrl = null;

// Another camera: what is shown is not its image.
export function watchCamera(name) {
  camera = name;
  $("image").hidden = true;
  $("blank").hidden = false;
  wantImage();
}

// There is a newer image than the one that is shown.
export async function wantImage() {
  isWanted = true;
  if (isBusy || document.hidden) return;
  isBusy = true;
  isWanted = false;
  try {
    await load(camera);
  } catch {
    /* the stream of events tells that the station is away */
  }
  setTimeout(() => {
    isBusy = false;
    if (isWanted) wantImage();
  }, PAUSE_MS);
}

async function load(name) {
  const width = Math.min(1920, Math.ceil($("frame").clientWidth * Math.min(2, devicePixelRatio)));
  const response = await fetch(`/api/images/live/${encodeURIComponent(name)}.jpg?width=${width}`);
  if (!response.ok) return;
  const url = URL.createObjectURL(await response.blob());
  const next = new Image();
  next.src = url;
  await next.decode(); // before it is shown, so that nothing flickers
  if (name !== camera) return URL.revokeObjectURL(url);
  $("image").src = url;
  $("image").alt = `Camera ${name}, the latest frame with its heat map`;
  $("image").hidden = false;
  $("blank").hidden = true;
  if (shownUrl) URL.revokeObjectURL(shownUrl);
  shownUrl = url;
}
