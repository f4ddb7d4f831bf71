/* Figures and tables that scroll inside themselves, on a phone, can be reached by keyboard. */
function reachable() {
  for (const box of document.querySelectorAll(".bd-article figure, .bd-article table")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);
