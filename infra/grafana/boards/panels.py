"""What the dashboards are put together from: Grafana's own builders, with what is alike in all of ours."""

from grafana_foundation_sdk.builders import barchart, common, stat as stats, table as tables, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import common as kinds, dashboard, units

PLUGIN = "grafana-clickhouse-datasource"
DATASOURCE = dashboard.DataSourceRef(type_val=PLUGIN, uid="${datasource}")
TIME_SERIES, TABLE = 0, 1  # the plugin's `format`

RED_GREEN = [("red", None), ("yellow", 0.8), ("green", 0.95)]
GREEN_RED = [("green", None), ("red", 1)]
FEW = [("green", None), ("yellow", 1)]
WAITING = [("green", None), ("yellow", 60), ("red", 300)]
PLAIN = [("blue", None)]
COLORS = {
    "success": "green",
    "failure": "red",
    "error": "purple",
    "timeout": "orange",
    "cancellation": "gray",
    "skip": "light-blue",
}


class Query(builder.Builder, variants.Dataquery):
    """A query as the ClickHouse plugin reads it: the library has no type of it."""

    def __init__(self, sql, format):
        self.sql, self.format = sql, format

    def build(self):
        return self

    def to_json(self):
        return {
            "refId": "A",
            "datasource": DATASOURCE,
            "editorType": "sql",
            "queryType": "timeseries" if self.format == TIME_SERIES else "table",
            "format": self.format,
            "rawSql": " ".join(self.sql.split()),
        }


def panel(it, title, description, sql, width, unit, format=TABLE):
    return (
        it.title(title).description(description).datasource(DATASOURCE).span(width).unit(unit)
        .with_target(Query(sql, format))
    )


def colored(mode):
    return build.FieldColor().mode(mode)


def stat(title, description, sql, unit=units.Short, thresholds=PLAIN, width=6):
    steps = [dashboard.Threshold(color=color, value=value) for color, value in thresholds]
    return (
        panel(stats.Panel(), title, description, sql, width, unit)
        .color_scheme(colored(dashboard.FieldColorModeId.THRESHOLDS))
        .thresholds(build.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .color_mode(kinds.BigValueColorMode.VALUE).graph_mode(kinds.BigValueGraphMode.NONE)
    )


def series(title, description, sql, unit=units.Short, label=None, bars=False, colors=None):
    """Lines, or stacked bars; `label` is the column that tells the series apart, `colors` are those of series."""
    it = (
        panel(timeseries.Panel(), title, description, sql, 12, unit, TIME_SERIES)
        .color_scheme(colored(dashboard.FieldColorModeId.PALETTE_CLASSIC)).min(0)
        .legend(
            common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM).show_legend(True)
        )
        .tooltip(
            common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.DESCENDING)
        )
    )
    if bars:
        it.draw_style(kinds.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
        it.stacking(common.StackingConfig().mode(kinds.StackingMode.NORMAL))
    else:
        it.line_width(2).fill_opacity(10).show_points(kinds.VisibilityMode.AUTO).span_nulls(True)
    if label:
        it.display_name(f"${{__field.labels.{label}}}")
    return painted(it, COLORS if label == "result" else colors or {})


def painted(it, colors):
    for name, color in colors.items():
        override(it, name, color={"mode": "fixed", "fixedColor": color})
    return it


def bars(title, description, sql, unit=units.Short):
    return (
        panel(barchart.Panel(), title, description, sql, 12, unit)
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.FIXED).fixed_color("blue"))
        .orientation(kinds.VizOrientation.HORIZONTAL).show_value(kinds.VisibilityMode.AUTO)
        .legend(common.VizLegendOptions().show_legend(False))
    )


def stacked(title, description, sql, colors, unit=units.Short):
    """Bars of several parts, each with its colour."""
    it = (
        panel(barchart.Panel(), title, description, sql, 12, unit)
        .color_scheme(colored(dashboard.FieldColorModeId.PALETTE_CLASSIC))
        .orientation(kinds.VizOrientation.HORIZONTAL).show_value(kinds.VisibilityMode.NEVER)
        .stacking(kinds.StackingMode.NORMAL)
        .legend(
            common.VizLegendOptions().display_mode(kinds.LegendDisplayMode.LIST)
            .placement(kinds.LegendPlacement.BOTTOM).show_legend(True)
        )
        .tooltip(common.VizTooltipOptions().mode(kinds.TooltipDisplayMode.MULTI).sort(kinds.SortOrder.NONE))
    )
    return painted(it, colors)


def table(title, description, sql, units_of=None, links=None, hidden=(), width=24):
    """`units_of` and `links` by column; a hidden column is there for a link of another."""
    it = (
        panel(tables.Panel(), title, description, sql, width, units.NoUnit)
        .color_scheme(colored(dashboard.FieldColorModeId.FIXED))
        .align(kinds.FieldTextAlignment.AUTO).filterable(True).show_header(True)
    )
    for column, unit in (units_of or {}).items():
        override(it, column, unit=unit)
    for column, link in (links or {}).items():
        override(it, column, links=[link])
    for column in hidden:
        override(it, column, **{"custom.hidden": True})
    return it


def override(it, column, **properties):
    it.override_by_name(column, [dashboard.DynamicConfigValue(id, value) for id, value in properties.items()])


def variable(name, label, sql, several=True):
    it = (
        build.QueryVariable(name).label(label).datasource(DATASOURCE)
        .query({"editorType": "sql", "queryType": "table", "format": TABLE, "rawSql": sql})
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(several).include_all(several)
    )
    return it.current(dashboard.VariableOption(text="All", value="$__all")) if several else it


SOURCE = build.DatasourceVariable("datasource").label("Data source").type(PLUGIN)


def board(uid, title, description, variables, rows, period="now-7d"):
    """`rows` are pairs of a height and panels, left to right, 24 columns wide."""
    it = (
        build.Dashboard(title).uid(uid).description(description).tags(["spanhook", "ci"]).readonly()
        .tooltip(dashboard.DashboardCursorSync.CROSSHAIR).time(period, "now").refresh("")
        .link(
            build.DashboardLink("CI dashboards").type(dashboard.DashboardLinkType.DASHBOARDS).tags(["spanhook"])
            .as_dropdown(True).include_vars(True).keep_time(True)
        )
        .variables([SOURCE, *variables]).annotations([])
    )
    placed = [panel.height(height) for height, row in rows for panel in row]
    for id, panel in enumerate(placed, 1):
        it.with_panel(panel.id(id))
    return it
