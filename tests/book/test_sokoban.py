"""The game in a real browser, without a network: played by keys and by hand, solved, shown; on every page that has one."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page
from widget_page import open_figure, write_page

from genai_lib.data import load_levels
from genai_lib.data.levels import Level
from genai_lib.games import play
from genai_lib.widgets import Sokoban

ROOT = Path(__file__).resolve().parents[2]
WITH_GAMES = [p.stem for p in sorted((ROOT / "notebooks").glob("*.ipynb")) if "Sokoban(level" in p.read_text(encoding="utf-8")]
KEYS = {"u": "ArrowUp", "d": "ArrowDown", "l": "ArrowLeft", "r": "ArrowRight"}
CORRIDOR = Level.parse("#######\n#@ $ .#\n#######", "Corridor")


@pytest.fixture(scope="module")
def game() -> Sokoban:
    microban = next(level for level in load_levels() if level.title.startswith("Microban 1, 1 "))
    return Sokoban([CORRIDOR, microban, Level.parse("######\n#.   #\n# $$ #\n#@  .#\n######")])


@pytest.fixture
def address(tmp_path: Path, game: Sokoban) -> str:
    return write_page(tmp_path / "game.html", game, views=[game.model_id] * 2)


def opened(page: Page, address: str) -> Locator:
    return open_figure(page, address, ".sokoban")


def shown(figure: Locator) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Rows and columns of the boxes, and of the player, as they are drawn."""
    where = figure.locator("svg").evaluate("""svg => [
        [...svg.querySelectorAll(".sb-box")].map(box => [+box.getAttribute("y"), +box.getAttribute("x")]),
        ["cy", "cx"].map(name => +svg.querySelector(".sb-player").getAttribute(name))]""")
    return sorted((int(y), int(x)) for y, x in where[0]), (int(where[1][0]), int(where[1][1]))


def check(figure: Locator, level: Level) -> None:
    assert shown(figure) == (sorted(map(tuple, np.argwhere(level.boxes).tolist())), level.player)


def test_the_keys_play_and_the_rules_are_those_of_python(page, address, game, console_errors, foreign_requests):
    figure = opened(page, address)
    figure.get_by_role("button", name="Next level").click()
    level, moves, rng = Level.parse(game.boards[1]), "", random.Random(0)
    figure.locator(".sb-board").click()
    for name in rng.choices("udlr", k=80):
        page.keyboard.press(KEYS[name])
        for written in (name, name.upper()):
            try:
                play(level, moves + written)
            except ValueError:
                continue
            moves += written
            break
        else:
            assert "Something is in the way" in figure.locator(".sb-status").inner_text()
        check(figure, play(level, moves))
    pushes = sum(map(str.isupper, moves))
    assert len(moves) > 20 < 80 - len(moves) + 20
    assert figure.locator(".sb-count").inner_text().startswith(f"Moves {len(moves)} · pushes {pushes} ·")
    check(page.locator(".sokoban").last, play(level, moves))  # two views of one game
    assert page.url == address
    assert console_errors == []
    assert foreign_requests == []


def test_undo_reset_and_the_solved_message(page, address, console_errors):
    figure = opened(page, address)
    figure.locator(".sb-board").focus()
    for key in ("ArrowRight", "ArrowRight"):
        page.keyboard.press(key)
    check(figure, play(CORRIDOR, "rR"))
    page.keyboard.press("u")
    check(figure, play(CORRIDOR, "r"))
    page.keyboard.press("r")
    check(figure, CORRIDOR)
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    status = figure.get_by_role("status")
    assert status.inner_text() == "Solved in 3 moves and 2 pushes. The solver needs 2 pushes."
    page.keyboard.press("ArrowLeft")
    check(figure, play(CORRIDOR, "rRR"))  # what is solved stays solved
    assert "Go on to another level" in status.inner_text()
    figure.get_by_role("button", name="Undo").click()
    check(figure, play(CORRIDOR, "rR"))
    figure.get_by_role("button", name="Reset").click()
    check(figure, CORRIDOR)
    assert figure.locator(".sb-count").inner_text() == "Moves 0 · pushes 0 · boxes home 0 of 1"
    assert console_errors == []


def test_a_hint_is_the_solvers_next_step_or_the_way_back_to_it(page, address, game):
    figure = opened(page, address)
    hint, status = figure.get_by_role("button", name="Hint"), figure.get_by_role("status")
    said = []
    for _ in game.solutions[0]:
        hint.click()
        said.append(status.inner_text())
        assert figure.locator(".sb-hint").count() == 1
        figure.get_by_role("button", name="Step right").click()
        assert figure.locator(".sb-hint").count() == 0
    assert said == ["The solver's next: step right.", "The solver's next: push right.", "The solver's next: push right."]
    figure.get_by_role("button", name="Reset").click()
    figure.get_by_role("button", name="Step right").click()
    figure.get_by_role("button", name="Step left").click()
    hint.click()
    assert status.inner_text().startswith("Your way is not the solver's. Undo 1 step to meet it again")


def test_the_solution_is_played_and_can_be_stopped(page, address, game):
    figure = opened(page, address)
    figure.get_by_role("button", name="Next level").click()
    button = figure.get_by_role("button", name="Show solution")
    button.click()
    stop = figure.get_by_role("button", name="Stop")
    page.wait_for_timeout(900)
    stop.click()
    made = int(figure.locator(".sb-count").inner_text().split()[1])
    assert 0 < made < len(game.solutions[1])
    check(figure, play(Level.parse(game.boards[1]), game.solutions[1][:made]))
    button.click()
    page.wait_for_function("document.querySelector('.sokoban .sb-status').textContent.startsWith('Solved')")
    check(figure, play(Level.parse(game.boards[1]), game.solutions[1]))
    assert button.inner_text() == "Show solution"


def test_the_levels_can_be_turned_and_the_ends_are_ends(page, address, game):
    figure = opened(page, address)
    back, on = (figure.get_by_role("button", name=f"{way} level") for way in ("Previous", "Next"))
    for expected in (1, 2, 2):
        on.click(force=True)
        assert figure.locator(".sb-title").inner_text().startswith(f"{expected + 1} of 3")
        check(figure, Level.parse(game.boards[expected]))
        assert figure.locator("pre").text_content() == game.boards[expected]
    assert (on.get_attribute("aria-disabled"), back.get_attribute("aria-disabled")) == ("true", "false")
    for _ in range(3):
        back.click(force=True)
    assert figure.locator(".sb-title").inner_text() == "1 of 3: Corridor"
    assert back.get_attribute("aria-disabled") == "true"


def test_keys_with_a_modifier_and_other_keys_are_left_to_the_page(page, address):
    figure = opened(page, address)
    figure.locator(".sb-board").focus()
    for key in ("Control+ArrowRight", "Alt+r", "Meta+u", "x"):
        page.keyboard.press(key)
    check(page.locator(".sokoban").first, CORRIDOR)
    page.keyboard.press("Tab")
    assert figure.locator(":focus").count() == 1  # no trap: the next button has it
    assert not figure.locator(".sb-board").evaluate("board => board === document.activeElement")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_and_the_dark_board_is_dark(page, address, theme):
    figure = opened(page, address)
    page.evaluate("theme => document.documentElement.dataset.theme = theme", theme)
    figure.locator("summary").click()
    found = Axe().run(page, context=".sokoban")
    assert found.violations_count == 0, found.generate_report()
    checked = Axe().run(page, context=".sokoban", options={"resultTypes": ["passes"]}).response["passes"]
    assert {"button-name", "color-contrast", "aria-roles"} <= {rule["id"] for rule in checked}
    paper = figure.locator(".sb-board").evaluate("board => getComputedStyle(board).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (theme == "light")


@pytest.mark.parametrize("width", [320, 1280])
def test_it_fits_and_a_finger_hits_every_button(page, address, width):
    page.set_viewport_size({"width": width, "height": 800})
    figure = opened(page, address)
    boxes = [button.bounding_box() for button in figure.get_by_role("button").all()]
    assert len(boxes) == 10
    for box in boxes:
        assert box
        assert min(box["width"], box["height"]) >= 44
        assert 0 <= box["x"] <= box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_some_chapter_has_one():
    assert WITH_GAMES


@pytest.mark.parametrize("name", WITH_GAMES)
def test_on_the_chapters_page_every_level_is_solved_by_its_solution(page, site, name, console_errors, foreign_requests):
    page.set_viewport_size({"width": 360, "height": 800})
    figure = opened(page, (site / "notebooks" / f"{name}.html").as_uri())
    count = int(figure.locator(".sb-title").inner_text().split(" of ")[1].split(":")[0])
    figure.locator(".sb-board").focus()
    for number in range(count):
        board = Level.parse(figure.locator("pre").text_content() or "")
        check(figure, board)
        for _ in range(300):
            figure.get_by_role("button", name="Hint").dispatch_event("click")  # sooner than a finger; others test the finger
            said = figure.get_by_role("status").inner_text()
            if said.startswith("Solved"):
                break
            figure.get_by_role("button", name=f"Step {said.rstrip('.').split()[-1]}").dispatch_event("click")
        assert said.startswith("Solved"), f"level {number + 1}"
        if number + 1 < count:
            figure.get_by_role("button", name="Next level").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert console_errors == []
    assert foreign_requests == []
