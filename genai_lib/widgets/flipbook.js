// The flipbook: one picture at a time, and a slider that turns the pages.
// The widget's state: pictures (PNG files, one after the other), ends (where each ends), labels, alts, name, page.

const PAUSE = 450; // milliseconds a page while it plays

function slices(bytes, ends) {
  const [buffer, start] = ArrayBuffer.isView(bytes) ? [bytes.buffer, bytes.byteOffset] : [bytes, 0];
  return ends.map((end, i) => new Blob([buffer.slice(start + (ends[i - 1] ?? 0), start + end)], { type: "image/png" }));
}

function render({ model, el }) {
  const labels = model.get("labels"), alts = model.get("alts"), last = labels.length - 1;
  const urls = slices(model.get("pictures"), model.get("ends")).map((blob) => URL.createObjectURL(blob));
  const root = document.createElement("div");
  root.className = "flipbook";
  root.setAttribute("role", "group");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // in JupyterLab the arrow keys are ours while we have the focus
  root.innerHTML = `<img>
    <div class="fb-hands">
      <button type="button">Play</button>
      <label><span class="fb-name"></span><input type="range" min="0" step="1"></label>
      <output aria-live="off"></output>
    </div>`;
  el.append(root);
  const [image, button, slider, output] = ["img", "button", "input", "output"].map((tag) => root.querySelector(tag));
  root.setAttribute("aria-label", `Flipbook: ${model.get("name")}`);
  root.querySelector(".fb-name").textContent = model.get("name");
  slider.max = last;
  output.style.minWidth = `${Math.max(...labels.map((label) => label.length))}ch`;

  function show() {
    const page = model.get("page");
    image.src = urls[page];
    image.alt = alts[page];
    slider.value = page;
    slider.setAttribute("aria-valuetext", labels[page]);
    output.textContent = labels[page];
  }
  function turn(page) {
    model.set("page", page);
    model.save_changes();
  }

  let playing = null;
  function stop() {
    clearInterval(playing);
    playing = null;
    button.textContent = "Play";
  }
  button.addEventListener("click", () => {
    if (playing !== null) return stop();
    if (model.get("page") === last) turn(0);
    button.textContent = "Stop";
    playing = setInterval(() => {
      turn(model.get("page") + 1);
      if (model.get("page") === last) stop();
    }, PAUSE);
  });
  slider.addEventListener("input", () => { stop(); turn(Number(slider.value)); });
  slider.addEventListener("keydown", (event) => event.stopPropagation()); // the page's own keys turn chapters

  model.on("change:page", show);
  show();
  return () => {
    stop();
    model.off("change:page", show);
    urls.forEach((url) => URL.revokeObjectURL(url));
  };
}

export default { render };
