// @ts-check
/** Hands bytes that this page made to the reader, as a file. @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const url = URL.createObjectURL(blob), link = document.createElement('a');
  link.href = url; link.download = name.replace(/[^\w.-]+/g, '-'); link.dataset.external = '';
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
