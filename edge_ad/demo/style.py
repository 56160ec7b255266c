"""What the demo's page adds to the style sheet of every page."""

__all__ = ["STYLE"]

STYLE = """
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 20px 16px; }
.chart .limit { fill: var(--ink); font-weight: 600; }
.chart .threshold { stroke: var(--ink); stroke-width: 1.5; stroke-dasharray: 5 4; }
.chart .bar.good { fill: var(--good); } .chart .bar.bad { fill: var(--bad); }
.gauge { position: relative; width: 120px; height: 6px; border-radius: 3px; background: var(--line);
  margin: 6px 0 0 auto; }
.gauge i { position: absolute; left: 0; top: 0; bottom: 0; width: var(--score); border-radius: 3px; }
.gauge b { position: absolute; left: var(--limit); top: -3px; bottom: -3px; width: 2px; background: var(--ink); }
.gauge.good i { background: var(--good); } .gauge.bad i { background: var(--bad); }
.share { display: flex; align-items: center; gap: 10px; min-width: 160px; padding-left: 24px; }
.share i { flex: 1; height: 6px; border-radius: 3px;
  background: linear-gradient(to right, var(--good) var(--part), var(--line) var(--part)); }
.share span { min-width: 44px; text-align: right; white-space: nowrap; }
.choice { display: flex; flex-wrap: wrap; gap: 8px; border: 0; padding: 0; margin: 10px 0 16px; }
.choice label { position: relative; border: 1px solid var(--line); border-radius: 99px; padding: 4px 14px;
  font-size: 14px; cursor: pointer; }
.choice input { position: absolute; opacity: 0; inset: 0; margin: 0; cursor: pointer; }
.choice label:has(:checked) { background: var(--ink); border-color: var(--ink); color: var(--panel); }
.choice label:has(:focus-visible) { outline: 2px solid var(--good); outline-offset: 2px; }
section:has(#show-good:checked) tr.is-bad, section:has(#show-bad:checked) tr.is-good,
section:has(#show-mistakes:checked) tr.is-right { display: none; }
@media (max-width: 640px) {
  .gallery { grid-template-columns: 1fr; }
  .narrow .share i { display: none; }
  .narrow .share { min-width: 0; padding: 0; } .narrow .share span { min-width: 0; flex: 1; }
  .stream tr { display: grid; grid-template-columns: 1fr 1fr; gap: 2px 10px; }
  .stream td { grid-column: 1 / -1; } .stream td.picture { grid-column: auto; padding-bottom: 6px; }
  .gauge { display: none; }
}
@media print { .stream { break-inside: auto; } .choice { display: none; } }
"""
