// A share with its interval, as a mark on a line from 0 to 100% and as text.
import { html } from "../kit.js";
import { percent, t } from "../words.js";

const WIDTH = 120;
const HEIGHT = 14;

/** A share in words: "58% (51% to 65%)". */
export function shareText({ value, low, high }) {
  const known = low !== null && high !== null;
  return known
    ? t("progress.interval", { value: percent(value), low: percent(low), high: percent(high) })
    : percent(value);
}

/** The mark alone; the text stands beside it, so screen readers need no other. */
export function Interval({ share, width = WIDTH }) {
  const at = (value) => 4 + value * (width - 8);
  const middle = HEIGHT / 2;
  return html`<svg class="interval" viewBox=${`0 0 ${width} ${HEIGHT}`} width=${width}
      height=${HEIGHT} aria-hidden="true" focusable="false">
    <line class="axis" x1=${at(0)} x2=${at(1)} y1=${middle} y2=${middle} />
    <line class="half" x1=${at(0.5)} x2=${at(0.5)} y1="1" y2=${HEIGHT - 1} />
    ${share.low !== null &&
    html`<line class="range" x1=${at(share.low)} x2=${at(share.high)} y1=${middle} y2=${middle} />`}
    <circle class="point" cx=${at(share.value)} cy=${middle} r="4" />
  </svg>`;
}
