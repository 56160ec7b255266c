"""The style sheet of every page: light and dark, wide and narrow, no fonts or images from elsewhere."""

__all__ = ["STYLE"]

STYLE = """
:root { color-scheme: light dark;
  --page: #eef1f4; --panel: #ffffff; --ink: #12171c; --muted: #586470; --line: #d9dfe5; --soft: #f4f6f8;
  --good: #17794a; --bad: #c22f2a; --warn: #8f5a00; --good-soft: #e2f3ea; --bad-soft: #fbe7e5; --warn-soft: #fbf0da; }
@media (prefers-color-scheme: dark) { :root {
  --page: #0e1216; --panel: #161b21; --ink: #e7ecf1; --muted: #97a3af; --line: #2a323b; --soft: #1c232a;
  --good: #4cc38a; --bad: #ff7a70; --warn: #ffb84d; --good-soft: #16301f; --bad-soft: #3a1b1a; --warn-soft: #352712; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI",
  Roboto, "Helvetica Neue", sans-serif; font-variant-numeric: tabular-nums; -webkit-text-size-adjust: 100%; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px 64px; }
header p, .note { color: var(--muted); margin: 0; }
h1 { font-size: 15px; font-weight: 600; margin: 0; }
h2 { font-size: 18px; line-height: 1.3; font-weight: 650; margin: 0 0 4px; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 10px; padding: 24px;
  margin-top: 20px; }
section > .note { margin-bottom: 16px; max-width: 90ch; text-wrap: pretty; }
.verdict { background: none; border: 0; padding: 24px 0 8px; }
.verdict h2 { font-size: clamp(26px, 4vw, 38px); line-height: 1.15; letter-spacing: -0.02em; margin: 0 0 20px;
  max-width: 30ch; text-wrap: balance; }
.tiles { display: grid; grid-template-columns: repeat(5, 1fr); background: var(--line); gap: 1px; border-radius: 10px;
  border: 1px solid var(--line); overflow: hidden; margin: 0; }
.tiles div { background: var(--panel); padding: 16px 20px; }
.tiles dt { color: var(--muted); font-size: 13px; }
.tiles dd { margin: 0; font-size: 26px; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em; }
.tiles dd small { font-size: 14px; font-weight: 400; color: var(--muted); letter-spacing: 0; }
.tiles .bad dd { color: var(--bad); } .tiles .warn dd { color: var(--warn); }
figure { margin: 0; min-width: 0; }
figure img { width: 100%; height: auto; display: block; border-radius: 6px; background: var(--soft); }
figcaption { display: flex; flex-wrap: wrap; gap: 2px 10px; align-items: baseline; padding-top: 8px; font-weight: 600; }
figcaption span:last-child { font-weight: 400; color: var(--muted); font-size: 13px; margin-left: auto; }
.chart { width: 100%; height: auto; display: block; font-size: 10.5px; overflow: visible; }
.chart text { fill: var(--muted); paint-order: stroke; stroke: var(--panel); stroke-width: 5px;
  stroke-linejoin: round; }
.chart .label { fill: var(--ink); font-weight: 600; }
.chart .tick { text-anchor: middle; } .chart .end { text-anchor: end; }
.chart .grid { stroke: var(--line); } .chart .base { stroke: var(--muted); }
table { width: 100%; border-collapse: collapse; }
th { text-align: left; font-size: 13px; font-weight: 500; color: var(--muted); padding: 0 16px 8px 0;
  vertical-align: bottom; }
td { padding: 10px 16px 10px 0; border-top: 1px solid var(--line); vertical-align: middle; }
th.number, td.number { text-align: right; white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td small { display: block; color: var(--muted); font-size: 13px; font-weight: 400; }
.narrow td small { display: inline; margin-left: 10px; }
td.name { font-weight: 600; overflow-wrap: anywhere; }
td img { width: 128px; height: auto; display: block; border-radius: 4px; background: var(--soft); }
.pill { display: inline-block; padding: 1px 10px; border-radius: 99px; font-size: 13px; font-weight: 600;
  white-space: nowrap; }
.pill.good { color: var(--good); background: var(--good-soft); } .pill.bad { color: var(--bad);
  background: var(--bad-soft); } .pill.warn { color: var(--warn); background: var(--warn-soft); }
.facts { display: grid; grid-template-columns: minmax(120px, 220px) 1fr; gap: 8px 24px; margin: 0; }
.facts dt { color: var(--muted); } .facts dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 860px) { .tiles { grid-template-columns: repeat(6, 1fr); }
  .tiles div { grid-column: span 2; } .tiles div:nth-child(n + 4) { grid-column: span 3; } }
@media (max-width: 640px) {
  main { padding: 24px 14px 40px; } section { padding: 18px 16px; border-radius: 8px; }
  .verdict { padding: 20px 0 4px; } .tiles div { padding: 12px 14px; grid-column: span 3; }
  .tiles div:first-child { grid-column: span 6; } .chart { font-size: 26px; }
  .cards, .cards tbody, .cards tr, .cards td { display: block; } .cards thead { display: none; }
  .cards tr { border-top: 1px solid var(--line); padding: 12px 0; }
  .cards tbody tr:first-child { border-top: 0; padding-top: 0; }
  .cards td, .cards td:last-child { border: 0; padding: 3px 0; display: flex; justify-content: space-between; gap: 16px;
    align-items: baseline; text-align: right; }
  .cards td[data-label]::before { content: attr(data-label); color: var(--muted); font-weight: 400; text-align: left; }
  .cards td.name { font-size: 16px; text-align: left; } .cards td small { display: inline; }
  .narrow { font-size: 14px; } .narrow th { font-size: 12px; }
  .narrow th:not(:last-child), .narrow td:not(:last-child) { padding-right: 8px; }
  .narrow td.name { overflow-wrap: break-word; }
  .narrow td small { display: block; margin: 0; font-size: 12px; }
  td img { width: 100%; }
  .facts { grid-template-columns: 1fr; gap: 0; } .facts dd { margin-bottom: 10px; }
}
@media print { body { background: none; } section { break-inside: avoid-page; } }
"""
