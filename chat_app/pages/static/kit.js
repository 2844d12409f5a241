// Preact with htm: components are functions, `html` makes their elements and escapes every text.
export * from "./vendor/preact.js";
import { html, render } from "./vendor/preact.js";

/** Draw a component into the page's only element. */
export function mount(component) {
  render(html`<${component} />`, document.getElementById("app"));
}
