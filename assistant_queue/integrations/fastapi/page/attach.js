// What is attached to the message that is being written: chosen, pasted or dropped.

import { bytesOf, MOST_FILES, partOf } from "./files.js";
import { shownOf } from "./parts.js";
import { element } from "./rich.js";
import { filesNode } from "./shown_files.js";

const by = (id) => document.getElementById(id);

export class Attachments {
  constructor({ limits, onChange, onTrouble, onRead }) {
    Object.assign(this, { limits, onChange, onTrouble, onRead });
    this.parts = [];
    this.busy = 0;
    by("attach").addEventListener("click", () => by("files").click());
    by("files").addEventListener("change", () => {
      this.add([...by("files").files]);
      by("files").value = "";
    });
    by("text").addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      this.add(files);
    });
    this.listenToDrops();
  }

  listenToDrops() {
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    let depth = 0;
    const show = (by_) => {
      depth = Math.max(0, depth + by_);
      by("drop").hidden = depth === 0;
    };
    addEventListener("dragenter", (event) => hasFiles(event) && show(1));
    addEventListener("dragleave", (event) => hasFiles(event) && show(-1));
    addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
    addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault(); // else the browser leaves the page for the file
      show(-depth);
      if (!by("naming").open) this.add([...event.dataTransfer.files]);
    });
  }

  async add(files) {
    const troubles = [];
    for (const file of files) {
      if (this.parts.length + this.busy >= MOST_FILES) {
        troubles.push(`A message takes ${MOST_FILES} files.`);
        break;
      }
      this.busy += 1;
      this.draw();
      try {
        this.parts.push(await partOf(file, this.room(), this.limits.inline));
      } catch (error) {
        troubles.push(error.message);
      } finally {
        this.busy -= 1;
      }
    }
    this.draw();
    this.onTrouble(troubles.join(" ") || null);
    by("text").focus();
    if (!this.busy) this.onRead(troubles.length === 0);
  }

  room() {
    return this.limits.max_bytes - this.parts.reduce((sum, part) => sum + bytesOf(part), 0);
  }

  restore(parts) {
    this.parts = [...this.parts, ...parts].slice(0, MOST_FILES);
    this.draw();
  }

  take() {
    const taken = this.parts;
    this.parts = [];
    this.draw();
    return taken;
  }

  draw() {
    const { files } = shownOf(this.parts);
    const shown = files.list.map((file, place) => {
      const item = element("li");
      const remove = element("button", "×", "remove");
      remove.type = "button";
      remove.setAttribute("aria-label", `Remove ${file.name}`);
      remove.addEventListener("click", () => {
        this.parts.splice(place, 1);
        this.draw();
        by("text").focus();
      });
      item.append(filesNode([file]), remove);
      return item;
    });
    if (this.busy) shown.push(element("li", "Reading…", "reading"));
    by("attached").replaceChildren(...shown);
    by("attached").hidden = !shown.length;
    this.onChange();
  }
}
