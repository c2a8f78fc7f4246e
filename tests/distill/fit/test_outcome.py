"""What is told of a fit: rows, the nearest miss, CSV and the plot."""

from __future__ import annotations

import csv
import dataclasses
import io
from xml.etree import ElementTree

from edgebert.distill.fit.budget import Budget
from edgebert.distill.fit.outcome import HEAD, Row, as_csv, nearest_miss, ranked
from edgebert.distill.fit.plot import as_svg

SVG = "{http://www.w3.org/2000/svg}"
LARGE = Row("6 <layers>", 20.0, 30000, why="20.00 MB (--max-mb 12)")
SMALL = Row("2 layers", 8.0, 30000, 2.0, 3.0, 900.0, 1.0, 0.90, "beaten")
MIDDLE = Row("3 layers", 10.0, 30000, 4.0, 5.0, 600.0, 3.0, 0.96, "beaten")
WORSE = Row("3 other layers", 10.0, 30000, 4.0, 5.0, 600.0, 1.0, 0.95, "beaten")
ROWS = (LARGE, SMALL, MIDDLE, WORSE)


def test_the_pareto_set_is_told_from_the_beaten_and_the_rest_stays() -> None:
    chosen = dataclasses.replace(MIDDLE, status="chosen")
    missed = dataclasses.replace(SMALL, status="missed", why="slow")
    assert [row.status for row in ranked(ROWS)] == ["over budget", "pareto", "pareto", "beaten"]
    assert [row.status for row in ranked((LARGE, missed, chosen, WORSE))] == [
        "over budget", "missed", "chosen", "beaten",
    ]  # fmt: skip


def test_a_row_is_a_line_of_the_table() -> None:
    assert len(HEAD) == len(MIDDLE.cells()) == len(LARGE.cells())
    assert MIDDLE.cells() == ["3 layers", "10.00", "4.00", "5.00", "600", "3.000", "0.9600", "beaten"]
    assert LARGE.cells() == ["6 <layers>", "20.00", "", "", "", "", "", "over budget: 20.00 MB (--max-mb 12)"]


def test_the_nearest_miss_before_training_names_every_limit_to_loosen() -> None:
    slow = Row("4 layers", 13.0, 30000, 8.0, 11.0, 100.0)
    told = nearest_miss((LARGE, slow), Budget(12, 10))
    assert told == (
        "the nearest of 2 is 4 layers with 13.00 MB, p99 11.00 ms: raise --max-mb from 12 to 13 and raise --p99-ms "
        "from 10 to 11"
    )
    larger = dataclasses.replace(LARGE, size_mb=14.0)
    assert nearest_miss((LARGE, larger), Budget(12)) == (
        "the nearest of 2 is 6 <layers> with 14.00 MB: raise --max-mb from 12 to 14"
    )


def test_the_nearest_miss_after_training_is_the_one_that_keeps_most() -> None:
    told = nearest_miss((SMALL, MIDDLE, WORSE), Budget(12, 10, 0.97))
    assert told == (
        "the nearest of 3 is 3 layers with 10.00 MB, p99 5.00 ms, retention 0.9600: lower --min-retention from 0.97 "
        "to 0.96"
    )


def test_what_the_gates_of_int8_refused_is_told_by_their_words() -> None:
    refused = dataclasses.replace(MIDDLE, status="missed", why="not accurate enough")
    assert nearest_miss((refused,), Budget(12)).endswith("retention 0.9600: not accurate enough")


def test_the_csv_has_a_line_for_each_candidate_and_blanks_for_what_is_not_known() -> None:
    lines = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert [line["candidate"] for line in lines] == [row.candidate for row in ROWS]
    assert lines[0]["p99_ms"] == lines[0]["retention"] == ""
    assert (float(lines[2]["p99_ms"]), float(lines[2]["retention"]), lines[2]["status"]) == (5.0, 0.96, "beaten")


def test_the_plot_is_xml_with_a_point_for_each_trained_candidate_and_the_limits() -> None:
    rows = ranked((*ROWS[:2], dataclasses.replace(MIDDLE, status="chosen"), WORSE))
    tree = ElementTree.fromstring(as_svg(rows, Budget(12, 10, 0.97), "<a & b>"))
    circles = tree.findall(f"{SVG}circle")
    assert len(circles) == 3
    assert len({circle.get("fill") for circle in circles}) == 3
    assert len(tree.findall(f"{SVG}line")) == 2
    assert tree.findtext(f"{SVG}title") == "<a & b>"
    xs, ys = ([float(circle.get(key) or 0) for circle in circles] for key in ("cx", "cy"))
    assert xs[0] < xs[1] and ys[1] < ys[0]  # larger to the right, more retention above
    assert all(80 <= x <= 700 for x in xs) and all(50 <= y <= 340 for y in ys)


def test_a_plot_of_one_point_and_no_limits_is_drawn() -> None:
    assert as_svg((MIDDLE,), Budget(), "one").count("<circle") == 1
