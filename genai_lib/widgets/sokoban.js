// Sokoban: push every box onto a goal. The widget's state: boards (levels as text), titles, solutions, level, moves.

const PAUSE = 280; // milliseconds a step while the solution is played
const STEPS = { u: [0, -1, "up"], d: [0, 1, "down"], l: [-1, 0, "left"], r: [1, 0, "right"] };
const KEYS = { ArrowUp: "u", ArrowDown: "d", ArrowLeft: "l", ArrowRight: "r" };

// ------------------------------------------------------------------ the rules

function parse(text) { // cells are numbered row by row
  const rows = text.split("\n"), width = Math.max(...rows.map((row) => row.length));
  const cells = rows.map((row) => row.padEnd(width)).join("");
  const where = (letters) => new Set([...cells].flatMap((cell, i) => (letters.includes(cell) ? [i] : [])));
  return { rows, width, height: rows.length, walls: where("#"), goals: where(".*+"), boxes: where("$*"), player: [...where("@+")][0] };
}

function step(state, letter) { // the state after a step, with how it is written: "r", "R" for a push; null if something is in the way
  const name = letter.toLowerCase(), [dx, dy] = STEPS[name], to = state.player + dx + dy * state.width, beyond = to + dx + dy * state.width;
  if (state.walls.has(to)) return null;
  if (!state.boxes.has(to)) return { ...state, player: to, written: name };
  if (state.walls.has(beyond) || state.boxes.has(beyond)) return null;
  const boxes = new Set(state.boxes);
  boxes.delete(to);
  boxes.add(beyond);
  return { ...state, boxes, player: to, written: name.toUpperCase() };
}

const replay = (level, moves) => [...moves].reduce(step, level);
const onGoals = ({ boxes, goals }) => [...boxes].filter((box) => goals.has(box)).length;
const pushes = (moves) => moves.replace(/[a-z]/g, "").length;

// ------------------------------------------------------------------ the page around it

function picture(state, hint) {
  const at = (i) => [i % state.width, Math.floor(i / state.width)];
  const draw = (cells, one) => [...cells].map((i) => one(...at(i), i)).join("");
  const [px, py] = at(state.player), [dx, dy] = hint ? STEPS[hint.toLowerCase()] : [0, 0];
  return `<svg viewBox="0 0 ${state.width} ${state.height}" aria-hidden="true">`
    + draw(state.walls, (x, y) => `<rect class="sb-wall" x="${x}" y="${y}" width="1.01" height="1.01"/>`)
    + draw(state.goals, (x, y) => `<circle class="sb-goal" cx="${x + 0.5}" cy="${y + 0.5}" r="0.2"/>`)
    + draw(state.boxes, (x, y, i) => `<rect class="sb-box" x="${x + 0.12}" y="${y + 0.12}" width="0.76" height="0.76" rx="0.1"/>`
      + (state.goals.has(i) ? `<path class="sb-home" d="M${x + 0.3} ${y + 0.52} l0.15 0.16 l0.26 -0.34"/>` : ""))
    + `<circle class="sb-player" cx="${px + 0.5}" cy="${py + 0.5}" r="0.34"/>`
    + `<circle class="sb-eye" cx="${px + 0.38}" cy="${py + 0.42}" r="0.06"/><circle class="sb-eye" cx="${px + 0.62}" cy="${py + 0.42}" r="0.06"/>`
    + (hint ? `<circle class="sb-hint" cx="${px + 0.5 + dx}" cy="${py + 0.5 + dy}" r="0.36"/>` : "") + "</svg>";
}

const FRAME = `
  <div class="sb-left">
    <div class="sb-head"><button type="button" class="sb-previous" aria-label="Previous level">◀</button><p class="sb-title"></p><button
      type="button" class="sb-next" aria-label="Next level">▶</button></div>
    <div class="sb-board" role="application" tabindex="0"></div>
  </div>
  <div class="sb-right">
    <p class="sb-count"></p>
    <p class="sb-status" role="status"></p>
    <div class="sb-pad" role="group" aria-label="Steps">
      <button type="button" data-step="u" aria-label="Step up">↑</button>
      <button type="button" data-step="l" aria-label="Step left">←</button>
      <button type="button" data-step="d" aria-label="Step down">↓</button>
      <button type="button" data-step="r" aria-label="Step right">→</button>
    </div>
    <div class="sb-hands">
      <button type="button" class="sb-undo">Undo</button><button type="button" class="sb-reset">Reset</button>
      <button type="button" class="sb-ask">Hint</button><button type="button" class="sb-show">Show solution</button>
    </div>
    <p class="sb-note">Push every box onto a ring; nothing can be pulled. Click the board, then use the arrow keys; U takes a step back, R
      starts again.</p>
    <details><summary>The level as text</summary><pre tabindex="0"></pre></details>
  </div>`;

function render({ model, el }) {
  const levels = model.get("boards").map(parse), titles = model.get("titles"), solutions = model.get("solutions");
  const root = document.createElement("div");
  root.className = "sokoban";
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Sokoban: push every box onto a goal");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // in JupyterLab the keys are ours while we have the focus
  root.innerHTML = FRAME;
  el.append(root);
  const [previous, title, next, board, count, status, undo, reset, ask, show, text] = [".sb-previous", ".sb-title", ".sb-next", ".sb-board",
    ".sb-count", ".sb-status", ".sb-undo", ".sb-reset", ".sb-ask", ".sb-show", "pre"].map((name) => root.querySelector(name));
  let playing = null, hint = "";

  const now = () => replay(levels[model.get("level")], model.get("moves"));
  const solved = (state) => onGoals(state) === state.boxes.size;
  function say(message) { status.textContent = message; }

  function draw() {
    const number = model.get("level"), moves = model.get("moves"), state = now(), home = onGoals(state), done = solved(state);
    root.classList.toggle("sb-dark", isDark(root));
    root.classList.toggle("sb-solved", done);
    board.innerHTML = picture(state, hint);
    board.setAttribute("aria-label", `Level ${number + 1} of ${levels.length}, ${state.height} rows and ${state.width} columns, `
      + `${home} of ${state.boxes.size} boxes on goals. Arrow keys move, U takes a step back, R starts again.`);
    title.textContent = `${number + 1} of ${levels.length}${titles[number] ? `: ${titles[number]}` : ""}`;
    count.textContent = `Moves ${moves.length} · pushes ${pushes(moves)} · boxes home ${home} of ${state.boxes.size}`;
    text.textContent = levels[number].rows.join("\n");
    for (const [button, off] of [[previous, number === 0], [next, number === levels.length - 1], [undo, !moves], [reset, !moves]]) {
      button.setAttribute("aria-disabled", off); // not `disabled`: the focus must not be lost
    }
  }
  function set(changes) {
    hint = "";
    model.set(changes);
    model.save_changes();
    draw();
  }
  function stop() {
    clearInterval(playing);
    playing = null;
    show.textContent = "Show solution";
  }
  const tell = (state) => (solved(state) ? `Solved in ${model.get("moves").length} moves and ${pushes(model.get("moves"))} pushes. `
    + `The solver needs ${pushes(solutions[model.get("level")])} pushes.` : "");

  function go(letter) {
    stop();
    if (solved(now())) return say(`${tell(now())} Go on to another level, or start again.`);
    const after = step(now(), letter), name = STEPS[letter][2];
    if (!after) return say(`Something is in the way: no step ${name}.`);
    set({ moves: model.get("moves") + after.written });
    say(tell(after) || `${after.written === letter ? "A step" : "A push"} ${name}.`);
  }
  function back() {
    stop();
    if (!model.get("moves")) return;
    set({ moves: model.get("moves").slice(0, -1) });
    say("One step back.");
  }
  function again() {
    stop();
    set({ moves: "" });
    say("From the start.");
  }
  function enter(number) {
    stop();
    if (number < 0 || number >= levels.length) return;
    set({ level: number, moves: "" });
    say(`Level ${number + 1}.`);
  }
  function advise() {
    stop();
    const moves = model.get("moves"), solution = solutions[model.get("level")];
    if (solved(now())) return say(tell(now()));
    let same = 0;
    while (same < moves.length && moves[same] === solution[same]) same++;
    if (same < moves.length) {
      const steps = moves.length - same;
      return say(`Your way is not the solver's. Undo ${steps} ${steps === 1 ? "step" : "steps"} to meet it again, or go on: there may be others.`);
    }
    hint = solution[same];
    draw();
    const name = STEPS[hint.toLowerCase()][2];
    say(`The solver's next: ${hint === hint.toUpperCase() ? "push" : "step"} ${name}.`);
  }
  function demonstrate() {
    if (playing !== null) { stop(); return say("Stopped. Go on from here, or start again."); }
    const solution = solutions[model.get("level")];
    set({ moves: "" });
    say("The solver's solution.");
    show.textContent = "Stop";
    playing = setInterval(() => {
      set({ moves: solution.slice(0, model.get("moves").length + 1) });
      if (model.get("moves").length === solution.length) { stop(); say(tell(now())); }
    }, PAUSE);
  }

  board.addEventListener("click", () => board.focus());
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target === text) return;
    const act = KEYS[event.key] ? () => go(KEYS[event.key]) : { u: back, r: again }[event.key.toLowerCase()];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation(); // the page's own keys turn chapters
    act();
  });
  root.querySelectorAll("[data-step]").forEach((button) => button.addEventListener("click", () => go(button.dataset.step)));
  undo.addEventListener("click", back);
  reset.addEventListener("click", again);
  ask.addEventListener("click", advise);
  show.addEventListener("click", demonstrate);
  previous.addEventListener("click", () => enter(model.get("level") - 1));
  next.addEventListener("click", () => enter(model.get("level") + 1));

  const ignoreTheme = onTheme(draw);
  const follow = () => { hint = ""; draw(); };
  model.on("change:level", follow);
  model.on("change:moves", follow);
  draw();
  return () => {
    stop();
    ignoreTheme();
    model.off("change:level", follow);
    model.off("change:moves", follow);
  };
}

export default { render };
