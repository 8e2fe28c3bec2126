// The latent map: a point z on a plane; the decoder runs here and draws the picture it decodes to.
// The widget's state: layers [2, …, pixels], weights (float16), points (z₁, z₂, class), extent, z.

const SIZE_OF_POINT = 5, STEPS_PER_UNIT = 4096, UNLABELLED = 255, KEPT_DRAWS = 60;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
// Ten classes. Colour alone would not do for every eye: each point is drawn as its digit.
const CLASSES = {
  light: ["#3b3fa8", "#a3402f", "#117733", "#8a6d00", "#1f7fa8", "#882255", "#2c8378", "#6b6b1a", "#a8409a", "#666666"],
  dark: ["#9aa0ff", "#f0907c", "#5cc77c", "#e0c65a", "#7cc8ee", "#e58ab4", "#62cbbd", "#c3c45c", "#dc93d2", "#b4b4b4"],
};

// ------------------------------------------------------------------ the decoder

function view(bytes) {
  return ArrayBuffer.isView(bytes) ? new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new DataView(bytes);
}

function half(bits) { // IEEE 754 binary16 to a number
  const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

function makeDecoder(layers, bytes) {
  const data = view(bytes);
  let read = 0;
  const take = (count) => Float32Array.from({ length: count }, () => half(data.getUint16(2 * read++, true)));
  const steps = layers.slice(1).map((width, i) => ({ matrix: take(width * layers[i]), bias: take(width) }));
  return (z) => steps.reduce((h, { matrix, bias }, i) => bias.map((b, row) => {
    let sum = b; // row of the matrix times h, plus the bias
    for (let k = 0; k < h.length; k++) sum += matrix[row * h.length + k] * h[k];
    return i < steps.length - 1 ? Math.max(0, sum) : 1 / (1 + Math.exp(-sum)); // ReLU; at the end the sigmoid
  }), z);
}

function drawPicture(canvas, pixels, colour = ([p]) => [p, p, p, 255]) {
  const image = new ImageData(canvas.width, canvas.height);
  pixels.forEach((p, i) => image.data.set(colour([Math.round(255 * p)]), 4 * i));
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// ------------------------------------------------------------------ the page around it

const number = (value) => value.toFixed(2).replace("-", "−");
const inWords = ([a, b]) => `z = (${number(a)}, ${number(b)})`;

function gaussianPair() { // Box and Muller, 1958
  const radius = Math.sqrt(-2 * Math.log(1 - Math.random())), angle = 2 * Math.PI * Math.random();
  return [radius * Math.cos(angle), radius * Math.sin(angle)];
}

const FRAME = `
  <div class="lm-left">
    <div class="lm-plane" role="slider" tabindex="0" aria-roledescription="point on a plane">
      <canvas class="lm-map" aria-hidden="true"></canvas><div class="lm-handle"></div>
    </div>
    <p class="lm-note"></p>
  </div>
  <div class="lm-right">
    <canvas class="lm-digit" role="img"></canvas>
    <div>
      <p class="lm-read"><output class="lm-z" aria-live="off"></output><span class="lm-density"></span></p>
      <button type="button" class="lm-draw">Random z ~ N(0, I)</button>
      <label><input type="checkbox" class="lm-lattice">decode the whole map</label>
    </div>
  </div>
  <p class="lm-status" role="status"></p>`;

function render({ model, el }) {
  const layers = model.get("layers"), extent = model.get("extent"), side = Math.sqrt(layers.at(-1));
  const decode = makeDecoder(layers, model.get("weights")), points = view(model.get("points") ?? new ArrayBuffer(0));
  const count = points.byteLength / SIZE_OF_POINT, draws = [];

  const root = document.createElement("div");
  root.className = "latent-map";
  root.setAttribute("role", "group");
  root.setAttribute("aria-label", "Latent map: move a point z, see the picture it decodes to");
  root.setAttribute("data-lm-suppress-shortcuts", "true"); // in JupyterLab the arrow keys are ours while we have the focus
  root.innerHTML = FRAME;
  el.append(root);
  const [plane, map, handle, note, digit, readout, density, button, lattice, status] = ["plane", "map", "handle", "note", "digit",
    "z", "density", "draw", "lattice", "status"].map((name) => root.querySelector(`.lm-${name}`));
  digit.width = digit.height = side;
  plane.setAttribute("aria-valuemin", -extent);
  plane.setAttribute("aria-valuemax", extent);
  const pointAt = (i) => ({ z: [0, 2].map((byte) => points.getInt16(SIZE_OF_POINT * i + byte, true) / STEPS_PER_UNIT),
    label: points.getUint8(SIZE_OF_POINT * i + 4) });
  const encoded = Array.from({ length: count }, (_, i) => pointAt(i));
  const labelled = encoded.some(({ label }) => label !== UNLABELLED);
  const beyond = encoded.filter(({ z }) => Math.max(...z.map(Math.abs)) > extent).length;
  note.textContent = "Drag the point, tap the map, or use the arrow keys (with Shift: larger steps). The rings hold 39 %, 86 % and 99 % of "
    + "all draws from the prior." + (count ? ` Each small ${labelled ? "digit" : "dot"} is the posterior mean of one picture, `
    + `${count.toLocaleString("en")} in all${beyond ? `, ${beyond.toLocaleString("en")} of them beyond the edge` : ""}.` : "");

  // ---------------------------------------------------------------- z: one number pair, kept to two decimals, as it is shown
  const onMap = (value) => Math.round(100 * Math.min(extent, Math.max(-extent, value))) / 100 + 0;
  function moveTo(z) {
    model.set("z", z.map(onMap));
    model.save_changes();
  }

  function showPoint() {
    const z = model.get("z"), log = -Math.log(2 * Math.PI) - (z[0] ** 2 + z[1] ** 2) / 2;
    drawPicture(digit, decode(z));
    handle.style.left = `${50 + 50 * z[0] / extent}%`;
    handle.style.top = `${50 - 50 * z[1] / extent}%`;
    readout.textContent = inWords(z);
    density.textContent = `log p(z) = ${number(log)} nats`;
    digit.setAttribute("aria-label", `The picture decoded from ${inWords(z)}`);
    plane.setAttribute("aria-label", "z in the latent plane, two dimensions");
    plane.setAttribute("aria-valuenow", z[0]);
    plane.setAttribute("aria-valuetext", inWords(z));
  }

  // ---------------------------------------------------------------- the plane
  let cells = null; // the lattice of decoded pictures, made when first wanted
  function decodedLattice(ink) {
    const across = 15, sheet = new OffscreenCanvas(across * side, across * side), cell = new OffscreenCanvas(side, side);
    for (let row = 0; row < across; row++) for (let column = 0; column < across; column++) {
      const at = (i) => extent * (2 * (i + 0.5) / across - 1);
      drawPicture(cell, decode([at(column), -at(row)]), ([p]) => [...ink, p]);
      sheet.getContext("2d").drawImage(cell, column * side, row * side);
    }
    return sheet;
  }

  function drawMap() {
    const width = plane.clientWidth, ratio = window.devicePixelRatio || 1;
    if (!width) return;
    map.width = map.height = Math.round(width * ratio);
    const dark = isDark(root), c = map.getContext("2d"), style = getComputedStyle(root);
    root.classList.toggle("lm-dark", dark);
    const colour = (name) => style.getPropertyValue(`--lm-${name}`).trim();
    const px = (z1) => width / 2 * (1 + z1 / extent), py = (z2) => width / 2 * (1 - z2 / extent);
    const line = (x0, y0, x1, y1) => { c.beginPath(); c.moveTo(x0, y0); c.lineTo(x1, y1); c.stroke(); };
    const write = (text, x, y, ink) => { // text on a halo of paper
      c.lineWidth = 4; c.strokeStyle = colour("paper"); c.strokeText(text, x, y);
      c.fillStyle = ink; c.fillText(text, x, y);
    };
    c.scale(ratio, ratio);
    c.lineJoin = "round";
    c.textAlign = "center";
    c.textBaseline = "middle";

    c.strokeStyle = colour("line");
    line(0, py(0), width, py(0));
    line(px(0), 0, px(0), width);
    if (lattice.checked) {
      const ink = dark ? [228, 231, 234] : [35, 38, 43];
      if (cells?.dark !== dark) cells = { dark, sheet: decodedLattice(ink) };
      c.globalAlpha = 0.85;
      c.drawImage(cells.sheet, 0, 0, width, width);
      c.globalAlpha = 1;
    } else {
      const palette = CLASSES[dark ? "dark" : "light"];
      c.font = `600 ${Math.max(7.5, width / 42)}px ${style.fontFamily}`;
      for (const { z, label } of encoded) {
        c.fillStyle = palette[label] || colour("soft");
        c.fillText(label === UNLABELLED ? "•" : label, px(z[0]), py(z[1]));
      }
    }

    c.strokeStyle = colour("latent");
    for (const radius of [1, 2, 3]) { // a draw from N(0, I) lies within this radius with probability 1 − e^(−r²/2)
      c.lineWidth = 1.5;
      c.beginPath(); c.arc(px(0), py(0), radius * width / 2 / extent, 0, 2 * Math.PI); c.stroke();
    }
    for (const [a, b] of draws) {
      c.beginPath(); c.arc(px(a), py(b), 3.5, 0, 2 * Math.PI);
      c.fillStyle = colour("latent"); c.fill(); c.lineWidth = 1.5; c.strokeStyle = colour("paper"); c.stroke();
    }
    c.font = `600 12px ${style.fontFamily}`;
    for (const radius of [1, 2, 3]) {
      const share = `${Math.round(100 * (1 - Math.exp(-(radius ** 2) / 2)))} %`;
      write(share, px(radius * Math.SQRT1_2), py(radius * Math.SQRT1_2), colour("latent-text"));
    }
    c.font = `12px ${style.fontFamily}`;
    for (let tick = Math.ceil(-extent) + 1; tick < extent; tick++) {
      write(String(tick).replace("-", "−"), px(tick), width - 10, colour("soft"));
      write(String(tick).replace("-", "−"), 10, py(tick), colour("soft"));
    }
    c.font = `italic 13px ${style.fontFamily}`;
    write("z₁", width - 12, py(0) + 11, colour("ink"));
    write("z₂", px(0) + 13, 11, colour("ink"));
  }

  // ---------------------------------------------------------------- hands
  let grip = null, dragged = false; // grip: from the pointer to the point, so that the point does not jump when caught
  const fromPointer = (event) => {
    const box = map.getBoundingClientRect();
    return [extent * (2 * (event.clientX - box.left) / box.width - 1), extent * (1 - 2 * (event.clientY - box.top) / box.height)];
  };
  plane.addEventListener("pointerdown", (event) => {
    dragged = false;
    if (event.button || (event.pointerType === "touch" && event.target !== handle)) return; // elsewhere a finger scrolls the page
    const at = fromPointer(event), z = model.get("z");
    grip = event.target === handle ? [z[0] - at[0], z[1] - at[1]] : [0, 0];
    dragged = true;
    plane.setPointerCapture(event.pointerId);
    plane.classList.add("lm-dragging");
    moveTo([at[0] + grip[0], at[1] + grip[1]]);
  });
  plane.addEventListener("pointermove", (event) => {
    if (!grip) return;
    const at = fromPointer(event);
    moveTo([at[0] + grip[0], at[1] + grip[1]]);
  });
  const release = () => { grip = null; plane.classList.remove("lm-dragging"); };
  plane.addEventListener("pointerup", release);
  plane.addEventListener("pointercancel", release);
  plane.addEventListener("click", (event) => { if (!dragged) moveTo(fromPointer(event)); }); // a tap
  plane.addEventListener("keydown", (event) => {
    const arrow = ARROWS[event.key];
    if (!arrow || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const step = event.shiftKey ? 0.5 : 0.05, z = model.get("z");
    moveTo([z[0] + step * arrow[0], z[1] + step * arrow[1]]);
  });
  button.addEventListener("click", () => {
    let z;
    do z = gaussianPair(); while (Math.max(...z.map(Math.abs)) > extent); // off the map: 1 draw in 185 for extent 3
    moveTo(z);
    draws.push(model.get("z"));
    if (draws.length > KEPT_DRAWS) draws.shift();
    drawMap();
    status.textContent = `Drawn from the prior: ${inWords(model.get("z"))}`;
  });
  lattice.addEventListener("change", drawMap);

  // ---------------------------------------------------------------- what may change around us
  model.on("change:z", showPoint);
  const resized = new ResizeObserver(drawMap), ignoreTheme = onTheme(drawMap);
  resized.observe(plane);
  showPoint();
  drawMap();
  return () => {
    model.off("change:z", showPoint);
    resized.disconnect();
    ignoreTheme();
  };
}

export default { render };
