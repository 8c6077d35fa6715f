// Pictures and files of messages: what is sent as content parts, and what of parts is shown. Pure.
//
// Parts come from strangers, too. Only pictures that are written out in the part are shown; no
// address in a part is ever loaded.

const PICTURE = /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+={0,2}$/;
const DATA = /^data:[\w.+-]+\/[\w.+-]+;base64,([A-Za-z0-9+/]+={0,2})$/;
const TEXT_FILE = /^\[([^\]\n]{1,120})\]\n/;
const LONGEST_NAME = 100;

// The content of a message: a text, or parts if there are files.
export function contentOf(text, files) {
  if (!files?.length) return text;
  return [...(text ? [{ type: "text", text }] : []), ...files];
}

export const picturePart = (url) => ({ type: "input_image", image_url: url });
export const documentPart = (name, url) => ({ type: "input_file", filename: nameOf(name), file_data: url });
export const textPart = (name, text) => ({ type: "text", text: `[${nameOf(name)}]\n${text}` });

// A name on one line, without signs that are not seen or that turn the direction of the text.
export function nameOf(name) {
  const clean = String(name ?? "")
    .replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cs}]/gu, "")
    .replace(/[[\]\\/]/g, "_")
    .replace(/\s+/gu, " ")
    .trim();
  if (clean.length <= LONGEST_NAME) return clean || "file";
  const [, end = ""] = /(\.\w{1,8})$/.exec(clean) ?? [];
  return `${clean.slice(0, LONGEST_NAME - end.length - 1)}…${end}`;
}

// What is shown of a content: {text, files}.
export function shownOf(content) {
  if (typeof content === "string") return { text: content, files: null };
  const texts = [];
  const list = [];
  for (const part of content) {
    if (typeof part.text !== "string") list.push(fileOf(part));
    else if (TEXT_FILE.test(part.text)) list.push(textFileOf(part));
    else texts.push(part.text);
  }
  return { text: texts.join("\n"), files: new Files(content, list) };
}

// Files of one message. As JSON only what tells them apart: their data is long.
export class Files {
  constructor(content, list) {
    this.parts = content.filter((part) => typeof part.text !== "string" || TEXT_FILE.test(part.text));
    this.texts = content.filter((part) => typeof part.text === "string").map((part) => part.text);
    this.list = list;
  }

  toJSON() {
    return this.list.map(({ kind, name, size }) => `${kind} ${name} ${size}`);
  }
}

function textFileOf(part) {
  const [head, name] = TEXT_FILE.exec(part.text);
  const text = part.text.slice(head.length);
  return { kind: "text", name: nameOf(name), size: text.length, text };
}

function fileOf(part) {
  const address = addressOf(part);
  if (/image/.test(part.type)) return { kind: "picture", name: "Picture", size: address.length, url: PICTURE.test(address) ? address : null };
  const name = part.filename ?? part.file?.filename ?? (/file/.test(part.type) ? "File" : `[${part.type}]`);
  const [, data = null] = DATA.exec(address) ?? [];
  return { kind: "file", name: nameOf(name), size: data ? Math.floor((data.length * 3) / 4) : 0, data };
}

function addressOf(part) {
  const found = part.image_url?.url ?? part.image_url ?? part.file_data ?? part.file?.file_data;
  return typeof found === "string" ? found : "";
}

export function sizeOf(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
