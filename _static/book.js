/* Figures and tables that scroll inside themselves, on a phone, can be reached by keyboard. */
function reachable() {
  for (const box of document.querySelectorAll(".bd-article figure, .bd-article table")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
}
window.addEventListener("load", reachable);
window.addEventListener("resize", reachable);
/* Docutils gives the entries of a bibliography a role that has been withdrawn; they are list items. */
window.addEventListener("load", () => {
  for (const entry of document.querySelectorAll('[role="doc-biblioentry"]')) entry.setAttribute("role", "listitem");
});
