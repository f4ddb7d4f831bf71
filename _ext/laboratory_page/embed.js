/* On a chapter: a button behind the link to the laboratory opens it in place, at the link's view. */
(function () {
  "use strict";
  const base = document.currentScript.src.replace(/[^/]*$/, "");

  function load(address) {
    return new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), { src: address, onload: done, onerror: failed });
      document.head.append(script);
    });
  }

  async function open(root, button) {
    button.disabled = true;
    const style = Object.assign(document.createElement("link"), { rel: "stylesheet", href: base + "../explorer/uPlot.min.css" });
    document.head.append(style);
    try {
      for (const file of ["../explorer/uPlot.iife.min.js", "colours.js", "laboratory.js"]) await load(base + file);
    } catch {
      button.replaceWith("The laboratory could not be loaded.");
      return;
    }
    window.laboratory(root);
    const train = root.querySelector("[data-lab-train]");
    train.focus();
    train.click();
  }

  const link = document.querySelector('a[href*="laboratory.html#technique="]');
  const root = document.createElement("div");
  root.dataset.lab = decodeURIComponent(link.hash.slice(1));
  const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Train" });
  button.dataset.labTrain = "";
  button.addEventListener("click", () => open(root, button));
  root.append(button);
  link.closest("p").after(root);
})();
