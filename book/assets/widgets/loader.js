// Mounts the anywidgets of a page from the state saved in its notebook. No kernel, no network: the widget's own code is in that state.
(() => {
  const VIEW = 'script[type="application/vnd.jupyter.widget-view+json"]';
  const STATE = 'script[type="application/vnd.jupyter.widget-state+json"]';
  const saved = {}, modules = {}, ready = {};

  function bytes(base64) {
    return new DataView(Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)).buffer);
  }

  function makeModel({ state, buffers = [] }) {
    for (const { path, data } of buffers) {
      const parent = path.slice(0, -1).reduce((place, key) => place[key], state);
      parent[path.at(-1)] = bytes(data);
    }
    const listeners = {};
    const tell = (name, ...rest) => [...(listeners[name] || [])].forEach((listener) => listener(...rest));
    return {
      get: (key) => state[key],
      set(key, value) {
        const changes = typeof key === "object" ? key : { [key]: value };
        const same = (a, b) => a === b || (!ArrayBuffer.isView(b) && JSON.stringify(a) === JSON.stringify(b));
        const names = Object.keys(changes).filter((name) => !same(state[name], changes[name]));
        Object.assign(state, changes);
        names.forEach((name) => tell(`change:${name}`, this, state[name]));
        if (names.length) tell("change", this);
      },
      save_changes() {}, // there is no kernel to save them in
      send() {},
      on: (name, listener) => (listeners[name] ||= new Set()).add(listener),
      off: (name, listener) => (listener ? listeners[name]?.delete(listener) : delete listeners[name]),
    };
  }

  async function load(code) {
    const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
    const module = await import(url).finally(() => URL.revokeObjectURL(url));
    const widget = module.default ?? module;
    return typeof widget === "function" ? widget() : widget;
  }

  // One model and one initialize() for all its views; one module for all widgets of a kind.
  async function prepare(id) {
    const model = makeModel(saved[id]), code = model.get("_esm"), css = model.get("_css");
    if (css && ![...document.querySelectorAll("style")].some((style) => style.textContent === css)) {
      document.head.append(Object.assign(document.createElement("style"), { textContent: css }));
    }
    const widget = await (modules[code] ||= load(code));
    const around = { model, signal: new AbortController().signal, experimental: { invoke: () => Promise.reject(new Error("no kernel")) } };
    await widget.initialize?.(around);
    return (el) => widget.render?.({ ...around, el });
  }

  async function mount(script) {
    const box = Object.assign(document.createElement("div"), { className: "widget-on-page" });
    script.replaceWith(box);
    try {
      const id = JSON.parse(script.textContent).model_id;
      if (!saved[id]) throw new Error("its state was not saved with the notebook");
      if (saved[id].model_module !== "anywidget") {
        box.textContent = "This control needs a running kernel: open the chapter in Jupyter or Colab to use it.";
        return;
      }
      await (await (ready[id] ||= prepare(id)))(box);
    } catch (error) {
      console.error(error);
      box.textContent = `This figure could not be started in your browser (${error.message}). Open the chapter in Jupyter or Colab to use it.`;
    }
  }

  function start() {
    for (const script of document.querySelectorAll(STATE)) Object.assign(saved, JSON.parse(script.textContent).state);
    document.querySelectorAll(VIEW).forEach(mount);
  }
  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
