// Keys pressed in the studio are the studio's. JupyterLab would take an arrow for a step to another cell, and two D for
// "delete this cell", unless the element that has the focus says otherwise.
export default {
  render({ el }) {
    el.style.display = "none";
    const mark = ({ target }) => target.setAttribute("data-lm-suppress-shortcuts", "true");
    let around, timer;
    const begin = () => {
      around = el.parentElement; // it has none before it is on the page
      if (around) around.addEventListener("focusin", mark);
      else timer = setTimeout(begin, 50);
    };
    begin();
    return () => {
      clearTimeout(timer);
      around?.removeEventListener("focusin", mark);
    };
  },
};
