// Draws the pictures and files of a message. Names are text; nothing is loaded from an address.

import { sizeOf } from "./parts.js";
import { element } from "./rich.js";

const by = (id) => document.getElementById(id);

export function filesNode(list) {
  const node = element("div", null, "files");
  node.append(...list.map(fileNode));
  return node;
}

function fileNode(file) {
  if (file.kind === "picture" && file.url) return pictureNode(file);
  if (file.kind === "text") return textNode(file);
  const node = file.data ? downloadNode(file) : element("span", null, "file");
  node.append(element("span", file.kind === "picture" ? "Picture" : file.name, "file-name"));
  if (file.data) node.append(element("span", sizeOf(file.size), "file-size"));
  return node;
}

function pictureNode(file) {
  const button = element("button", null, "picture");
  button.type = "button";
  button.setAttribute("aria-label", "Show the picture in full");
  const image = element("img");
  image.alt = "";
  image.src = file.url;
  button.append(image);
  button.addEventListener("click", () => {
    by("picture-image").src = file.url;
    by("picture").showModal();
  });
  return button;
}

function textNode(file) {
  const node = element("details", null, "file");
  const head = element("summary");
  head.append(element("span", file.name, "file-name"), element("span", sizeOf(file.size), "file-size"));
  const text = element("pre");
  text.tabIndex = 0;
  text.append(element("code", file.text));
  node.append(head, text);
  return node;
}

// Saved as bytes of no type: whatever the part says that it is, the browser opens none of it.
function downloadNode(file) {
  const button = element("button", null, "file");
  button.type = "button";
  button.setAttribute("aria-label", `Save ${file.name}`);
  button.addEventListener("click", () => {
    const bytes = Uint8Array.from(atob(file.data), (char) => char.charCodeAt(0));
    const address = URL.createObjectURL(new Blob([bytes], { type: "application/octet-stream" }));
    const link = element("a");
    link.href = address;
    link.download = file.name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  });
  return button;
}

by("picture-close").addEventListener("click", () => by("picture").close());
by("picture").addEventListener("click", (event) => event.target === by("picture") && by("picture").close());
