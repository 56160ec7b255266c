"""What the comparison's page adds to the style sheet of every page."""

__all__ = ["STYLE"]

STYLE = """
.mark.best { padding: 1px 8px; margin-right: -8px; border-radius: 99px; font-weight: 650; color: var(--good);
  background: var(--good-soft); }
.note .mark.best { margin: 0; }
.tied { color: var(--muted); }
td.name { overflow-wrap: normal; }
td.number small { white-space: nowrap; font-size: 12px; }
td pre { margin: 0; font: 13px/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
  text-align: left; }
.tiles dd small { display: block; overflow-wrap: anywhere; line-height: 1.4; }
h3 { font-size: 15px; font-weight: 650; margin: 28px 0 10px; }
h3 small { font-size: 13px; font-weight: 400; color: var(--muted); margin-left: 10px; }
.note + div h3 { margin-top: 8px; }
.views { display: grid; grid-template-columns: repeat(var(--columns), 1fr); gap: 16px 12px; }
.views figcaption { flex-direction: column; align-items: flex-start; gap: 3px; font-size: 14px; }
.views figcaption span:last-child { margin: 0; } .views .pill { font-size: 12px; padding: 1px 8px; }
.chart.slim { display: none; font-size: 11px; }
.chart .whisker { stroke: var(--muted); stroke-opacity: 0.75; } .chart .whisker.fp32 { stroke-opacity: 0.35; }
.chart .whisker.fp16 { stroke-opacity: 0.35; }
.chart .link { stroke: var(--ink); stroke-opacity: 0.4; stroke-dasharray: 2 3; }
.point { stroke: var(--good); stroke-width: 2; fill: var(--panel); }
.point.int8 { fill: var(--good); } .point.fp16 { fill: var(--good-soft); }
.legend { display: flex; gap: 18px; margin: 10px 0 0; font-size: 13px; color: var(--muted); }
.legend span { display: flex; align-items: center; gap: 7px; }
.key { width: 11px; height: 11px; border-radius: 50%; border: 2px solid var(--good); background: var(--panel); }
.key.int8 { background: var(--good); } .key.fp16 { background: var(--good-soft); }
@media (min-width: 641px) {
  .grouped td { padding: 4px 16px 9px 0; } .grouped td:last-child { padding-right: 0; }
  .grouped td.name small { font-weight: 600; }
  .grouped th.number { white-space: normal; }
  .grouped.by-2 tr:nth-child(2n) td, .grouped.by-3 tr:not(:nth-child(3n + 1)) td { border: 0; }
  .grouped.by-2 tr:nth-child(2n + 1) td, .grouped.by-3 tr:nth-child(3n + 1) td { padding-top: 11px; }
  .grouped.by-2 tr:nth-child(2n) .method, .grouped.by-3 tr:not(:nth-child(3n + 1)) .method { display: none; }
}
@media (min-width: 641px) and (max-width: 1000px) {
  main { padding-left: 16px; padding-right: 16px; } section { padding: 20px 16px; }
  table { font-size: 14px; } th { font-size: 12px; } td.number small { font-size: 11px; }
  section { overflow-x: auto; }
  th, td, .grouped td { padding-right: 9px; } .grouped .mark.best { padding: 1px 5px; margin-right: -5px; }
  .views { grid-template-columns: repeat(auto-fill, minmax(130px, 1fr)); }
}
@media (min-width: 641px) and (max-width: 800px) { /* an A4 page as well */
  .grouped td.number small { white-space: normal; line-height: 1.25; } .grouped td.name { min-width: 112px; }
}
@media (max-width: 640px) {
  .chart.wide { display: none; } .chart.slim { display: block; }
  .views { grid-template-columns: 1fr 1fr; }
  h3 small { display: block; margin: 0; } .cards td.number small { margin-left: 8px; }
  .mark.best { margin-right: 0; }
}
@media print { .views { break-inside: avoid-page; } }
"""
