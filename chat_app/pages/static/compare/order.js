// An order of replies, best first: a list of {label, tied}, where tied is as good as the one before.

/** The order with a reply at its end; one that is in it is taken out. */
export function toggled(order, label) {
  const at = order.findIndex((one) => one.label === label);
  if (at < 0) return [...order, { label, tied: false }];
  const rest = order.filter((one) => one.label !== label);
  const heads = !order[at].tied && at < rest.length; // the next one of its group begins it now
  return heads ? rest.map((one, place) => (place === at ? { ...one, tied: false } : one)) : rest;
}

/** The order whose last reply is as good as the one before, or worse again. */
export function retied(order) {
  if (order.length < 2) return order;
  const last = order.at(-1);
  return [...order.slice(0, -1), { ...last, tied: !last.tied }];
}

/** The labels in groups, best first. */
export function groups(order) {
  const found = [];
  for (const { label, tied } of order) {
    if (tied) found.at(-1).push(label);
    else found.push([label]);
  }
  return found;
}

/** The place of each reply: 1 for the best; those of one group share it. */
export function places(order) {
  const found = {};
  groups(order).forEach((group, at) => group.forEach((label) => (found[label] = at + 1)));
  return found;
}
