// What the server tells the page: settings of the service, its words, the names of its places.
const read = (id) => JSON.parse(document.getElementById(id).textContent);

export const config = read("config");
export const words = read("words");

/** An address of ours, below the path at which a proxy may serve us. */
export const place = (path) => `${config.root}${path}`;
