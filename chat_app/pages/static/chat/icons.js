// The page's icons, drawn with lines in the colour of the text; names for readers are beside them.
import { html } from "../kit.js";

const LINES = {
  up: "M7 11v9H4v-9zm0 0 4-8a2 2 0 0 1 2 2v4h5.5a2 2 0 0 1 2 2.4l-1.3 7A2 2 0 0 1 17.2 20H7",
  down: "M17 13V4h3v9zm0 0-4 8a2 2 0 0 1-2-2v-4H5.5a2 2 0 0 1-2-2.4l1.3-7A2 2 0 0 1 6.8 4H17",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  again: "M20 11a8 8 0 1 0-.6 4M20 4v7h-7",
  pen: "m4 20 1-4L16.5 4.5a2.1 2.1 0 0 1 3 3L8 19zM14 7l3 3",
  better: "M4 6h14M4 11h8M4 16h5m3 4 .8-3.2 6-6a1.6 1.6 0 0 1 2.3 2.3l-6 6z",
  send: "M12 20V5m-6 6 6-6 6 6",
  stop: "M7 7h10v10H7z",
  menu: "M4 6h16M4 12h16M4 18h16",
  plus: "M12 5v14M5 12h14",
  pin: "M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v5",
  bin: "M5 7h14M10 4h4M7 7l1 13h8l1-13",
  check: "m5 13 4 4L19 7",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 24 24" width="20" height="20" fill="none" aria-hidden="true"
      stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round">
    <path d=${LINES[name]} />
  </svg>`;
}
