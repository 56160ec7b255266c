"""The measurement as Markdown."""

from __future__ import annotations

from typing import Any

from benchmarks.gpu.timing import STAGES

NOT_MEASURED = "-"


def as_text(result: dict[str, Any]) -> str:
    """Tables of a result of `Measurement.run`."""
    parts = [_heading(result), _aims(result["aims"]), _latency(result), _stages(result), _throughput(result)]
    parts += [_torch(result["torch"]), _limits(result["limits"]), _remarks(result)]
    return "\n\n".join(part for part in parts if part)


def _heading(result: dict[str, Any]) -> str:
    machine, gpu = result["machine"], result["machine"]["gpu"]
    if result["stand_in"]:
        return (
            "# Rehearsal on the stand-in: these are not measurements\n\n"
            "No GPU took part. The stand-in ran the calls of the benchmark in ordinary memory; its times mean nothing."
        )
    modules = ", ".join(f"{name} {state}" for name, state in machine["modules"].items() if state != "not installed")
    clocks = result["clocks_at_the_end"]
    return (
        f"# {gpu['name']}\n\nCompute capability {gpu['compute_capability']}, CUDA driver {gpu['cuda_driver']}, "
        f"{gpu['memory_mib']} MiB{', shared with the host' if gpu['integrated'] else ''}; {machine['processor']}, "
        f"{machine['cores']} cores. {modules}. "
        + (f"At the end: {', '.join(f'{name} {value}' for name, value in clocks.items())}. " if clocks else "")
        + f"Measured in {result['seconds']:.0f} s by `python -m benchmarks gpu`."
    )


def _aims(aims: dict[str, Any]) -> str:
    if not aims:
        return ""
    names = {
        "verdict_ms": "bytes to verdict, batch 1, ms (median)",
        "images_per_s": "images/s of the GPU",
        "times_torch_eager": "times torch eager in half precision",
    }
    rows = [[names[name], aims[name]["aim"], aims[name]["got"]] for name in names]
    return _table(["", "aim", "fastest engine"], rows)


def _name(row: dict[str, Any]) -> str:
    return f"{row['bundle']}, {row['precision']}, {row['flavour']} {row['version']}"


def _latency(result: dict[str, Any]) -> str:
    rows = []
    for row in result["engines"]:
        if "verdict" in row:
            distance = row["distance"].get("share_of_limit")
            share = f"{distance:.0%}" if distance else None
            rows.append([_name(row), "verdict", *_percentiles(row["verdict"]), share])
            rows += [["", way, *_percentiles(times), None] for way, times in row["ways"].items()]
            rows.append(["", "GPU alone", *_percentiles(row["gpu"]), None])
    heads = ["batch 1, milliseconds", "", "p50", "p99", "p99.9", "of the limit"]
    text = (
        "## Latency\n\nFrom a frame's bytes on the host to its map and score there, by four ways to run the engine; "
        "`verdict` adds regions and threshold. The limit is the time that the graph's arithmetic or bytes take at the "
        "chip's measured rates.\n\n"
    )
    return text + _table(heads, rows) if rows else ""


def _percentiles(times: dict[str, float]) -> list[float]:
    return [times["p50_ms"], times["p99_ms"], times["p99.9_ms"]]


def _stages(result: dict[str, Any]) -> str:
    names = (*STAGES, "host")
    rows = [
        [_name(row), *(row["stages"][name]["p50_ms"] for name in names)] for row in result["engines"] if "stages" in row
    ]
    text = "## Stages\n\nMedians in milliseconds at batch 1, kernel by kernel; `host` is what follows the answer.\n\n"
    return text + _table(["", *names], rows) if rows else ""


def _throughput(result: dict[str, Any]) -> str:
    rows = [
        [
            _name(row) if number == 0 else "",
            batch["batch"],
            f"{batch['gpu_images_per_s']:,.0f}",
            f"{batch['images_per_s']:,.0f}",
            f"{batch['images_per_s_two_threads']:,.0f}",
            f"{batch['tflops']:,.2f}" if "tflops" in batch else None,
            f"{batch['share_of_limit']:.0%}" if "share_of_limit" in batch else None,
        ]
        for row in result["engines"]
        for number, batch in enumerate(row.get("throughput", []))
    ]
    heads = ["images a second", "batch", "GPU", "served, one thread", "served, two threads", "TFLOP/s", "of the limit"]
    text = "## Throughput\n\n`GPU`: batches queued back to back, copies counted in. `served`: from host to host.\n\n"
    return text + _table(heads, rows) if rows else ""


def _torch(torch: dict[str, Any]) -> str:
    rows = []
    for name in ("eager", "compiled"):
        for what, times in torch.get(name, {}).items():
            if isinstance(times, dict):
                rows.append([name, f"{what}, ms", *_percentiles(times)])
            elif what != "why_not":
                rows.append([name, what, f"{times:,.0f}", None, None])
    text = "## The same network in torch, in half precision\n\n"
    why_not = [
        f"{name}: {torch[name]['why_not']}" for name in ("eager", "compiled") if "why_not" in torch.get(name, {})
    ]
    why_not += [torch["why_not"]] if "why_not" in torch else []
    table = _table(["", "", "p50", "p99", "p99.9"], rows) if rows else ""
    return text + "\n\n".join(filter(None, [table, *(f"Not measured: {reason}." for reason in why_not)]))


def _limits(limits: dict[str, Any]) -> str:
    rows: list[list[Any]] = [["memory, GB/s, reads and writes", limits["copy_gb_per_s"]]]
    for precision, rates in limits.items():
        if isinstance(rates, dict):
            rows += [[f"{precision}, TFLOP/s, {what}", rate] for what, rate in rates.items()]
    return "## What the chip was measured to reach\n\n" + _table(["", ""], rows)


def _remarks(result: dict[str, Any]) -> str:
    lines = [f"- {_name(row)}: {row['failure']}" for row in result["engines"] if "failure" in row]
    lines += [f"- {_name(row)}: no CUDA graph, {row['graph']}" for row in result["engines"] if _without_graph(row)]
    lines += [f"- limit, {failure}" for failure in result["limits"].get("failures", [])]
    lines += [f"- left out for want of time: {what}" for what in result["left_out"]]
    for of_bundle in result["verified"]:
        for proof in of_bundle["proofs"]:
            verdict = {True: "holds", False: "FAILS", None: "not run here"}[proof["ok"]]
            what = proof["engine"] or proof["backend"]
            lines.append(f"- {of_bundle['bundle']}, {proof['precision']}, {what}: {verdict} {proof['reason']}".rstrip())
    return "## Remarks\n\n" + "\n".join(lines) if lines else ""


def _without_graph(row: dict[str, Any]) -> bool:
    return row.get("graph") not in (None, "captured", "TensorRT-RTX's own")


def _table(heads: list[str], rows: list[list[Any]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return NOT_MEASURED
    if isinstance(value, float):
        return f"{value:,.4f}" if value < 10 else f"{value:,.2f}"
    return str(value)
