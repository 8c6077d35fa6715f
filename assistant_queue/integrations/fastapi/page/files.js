// Files of this machine as content parts: pictures are made small enough, and lose what cameras
// write into them, such as the place.

import { documentPart, nameOf, picturePart, sizeOf, textPart } from "./parts.js";

export const MOST_FILES = 8;
const MOST_TEXT = 100000; // characters of a text file
const LARGEST_PICTURE = 40e6; // bytes that are read in order to shrink them
const SIDES = [2048, 1568, 1024, 768, 512]; // more is shrunk by the models themselves
const QUALITIES = [0.86, 0.7];

// A part for a file; throws an Error in words for people. `room` is the bytes that are left.
export async function partOf(file, room, takesFiles) {
  const name = nameOf(file.name);
  if (!file.size) throw new Error(`“${name}” is empty.`);
  if (file.type.startsWith("image/")) return picture(file, name, room, takesFiles);
  if (file.type === "application/pdf") return document_(file, name, room, takesFiles);
  return text(file, name, room, takesFiles);
}

async function picture(file, name, room, takesFiles) {
  if (!takesFiles) throw new Error("This assistant takes no pictures.");
  if (file.size > LARGEST_PICTURE) throw tooLarge(name, file.size, LARGEST_PICTURE);
  if (file.type === "image/gif" && base64Length(file.size) <= room) return picturePart(await dataUrl(file, "image/gif"));
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (!bitmap) throw new Error(`“${name}” cannot be read as a picture.`);
  try {
    for (const side of SIDES) {
      const canvas = drawn(bitmap, side);
      for (const [type, quality] of file.type === "image/png" ? [["image/png"], ...jpegs] : jpegs) {
        const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, quality));
        if (blob && base64Length(blob.size) <= room) return picturePart(await dataUrl(blob, blob.type));
      }
    }
  } finally {
    bitmap.close();
  }
  throw noRoom(name);
}

const jpegs = QUALITIES.map((quality) => ["image/jpeg", quality]);

function drawn(bitmap, side) {
  const share = Math.min(1, side / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * share));
  canvas.height = Math.max(1, Math.round(bitmap.height * share));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas;
}

async function document_(file, name, room, takesFiles) {
  if (!takesFiles) throw new Error("This assistant takes no PDF files.");
  if (base64Length(file.size) > room) throw tooLarge(name, file.size, Math.floor((room * 3) / 4));
  return documentPart(name, await dataUrl(file, "application/pdf"));
}

async function text(file, name, room, takesFiles) {
  const kinds = takesFiles ? "Pictures, PDF and text files are" : "Text files are";
  const notTaken = new Error(`“${name}” is not taken. ${kinds}.`);
  if (file.size > 4 * MOST_TEXT) throw /^text\/|json/.test(file.type) ? tooLarge(name, file.size, MOST_TEXT) : notTaken;
  let words;
  try {
    words = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch {
    throw notTaken;
  }
  if (words.includes("\0")) throw notTaken;
  const part = textPart(name, words.slice(0, MOST_TEXT + 1));
  if (words.length > MOST_TEXT) throw tooLarge(name, file.size, MOST_TEXT);
  if (bytesOf(part) > room) throw noRoom(name);
  return part;
}

const tooLarge = (name, size, most) => new Error(`“${name}” is too large: ${sizeOf(size)}. It may have ${sizeOf(Math.max(0, most))}.`);
const noRoom = (name) => new Error(`“${name}” does not fit into this message any more.`);

export const bytesOf = (part) => new TextEncoder().encode(JSON.stringify(part)).length;
const base64Length = (bytes) => Math.ceil(bytes / 3) * 4 + 100;

// Written by the type that is known here, not by the one that the file says.
function dataUrl(blob, type) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.replace(/^data:[^,]*,/, `data:${type};base64,`));
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(blob);
  });
}
