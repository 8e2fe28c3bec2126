// The page around a widget: is it dark, and when does it change? Put before a widget's own code by `script.with_theme`.

function isDark(el) { // the Jupyter Book page, Colab, JupyterLab and VS Code say it; elsewhere the text's colour does
  const html = document.documentElement, body = document.body;
  const said = html.dataset.theme || html.getAttribute("theme") || body.dataset.vscodeThemeKind;
  if (said) return /dark|high-contrast$/.test(said);
  if (body.dataset.jpThemeLight) return body.dataset.jpThemeLight === "false";
  const [r, g, b] = (getComputedStyle(el.parentElement || el).color.match(/[\d.]+/g) || [0, 0, 0]).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 128;
}

function onTheme(draw) { // draws again whenever the page may have changed its theme; call what it returns to stop that
  const themed = new MutationObserver(draw);
  for (const node of [document.documentElement, document.body]) {
    themed.observe(node, { attributes: true, attributeFilter: ["class", "style", "theme", "data-theme", "data-jp-theme-light",
      "data-vscode-theme-kind"] });
  }
  return () => themed.disconnect();
}
