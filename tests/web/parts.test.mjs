// Content parts of strangers: what of them is shown.

import assert from "node:assert/strict";
import { test } from "node:test";

const { contentOf, documentPart, nameOf, picturePart, shownOf, sizeOf, textPart } = await import(`${process.env.PAGE}/parts.js`);
const PNG = "data:image/png;base64,iVBORw0KGgo=";

test("a text without files is a text", () => {
  assert.equal(contentOf("a", []), "a");
  assert.equal(contentOf("a", undefined), "a");
  assert.deepEqual(shownOf("[x]\na"), { text: "[x]\na", files: null });
});

test("what is sent is what is shown", () => {
  const content = contentOf("look", [picturePart(PNG), documentPart("a.pdf", "data:application/pdf;base64,AAAA"), textPart("n.txt", "one\ntwo")]);
  const { text, files } = shownOf(content);
  assert.equal(text, "look");
  assert.deepEqual(files.list.map((file) => [file.kind, file.name]), [["picture", "Picture"], ["file", "a.pdf"], ["text", "n.txt"]]);
  assert.deepEqual([files.list[0].url, files.list[1].data, files.list[2].text], [PNG, "AAAA", "one\ntwo"]);
  assert.deepEqual(contentOf("new", files.parts), [{ type: "text", text: "new" }, ...content.slice(1)]);
  assert.deepEqual(shownOf(contentOf("", [picturePart(PNG)])).text, "");
});

test("only pictures that are written out are shown", () => {
  for (const url of [
    "https://evil.example/x.png", "//evil.example/x.png", "javascript:alert(1)", "data:image/svg+xml;base64,AAAA", "data:text/html;base64,AAAA",
    "data:image/png,raw", `${PNG}"onload="x`, " " + PNG, "data:image/png;base64,", "blob:x", "", null, undefined, 7, {}, [PNG], { url: { url: PNG } },
  ]) {
    for (const part of [{ type: "input_image", image_url: url }, { type: "image_url", image_url: { url } }]) {
      const [file] = shownOf([part]).files.list;
      assert.deepEqual([file.kind, file.url], ["picture", null], JSON.stringify(part));
    }
  }
  for (const part of [{ type: "image_url", image_url: { url: PNG } }, { type: "image_url", image_url: PNG }, { type: "input_image", image_url: PNG }]) {
    assert.equal(shownOf([part]).files.list[0].url, PNG);
  }
});

test("parts of any shape are shown as something", () => {
  for (const part of [
    { type: "dance" }, { type: "input_file" }, { type: "input_file", file_id: "f" }, { type: "file", file: null }, { type: "file", file: { filename: 7 } },
    { type: "text", text: 7 }, { type: "input_file", filename: "a", file_data: "https://evil.example" }, { type: "input_file", filename: "a", file_data: "data:x" },
  ]) {
    const [file] = shownOf([part]).files.list;
    assert.ok(file.name.length > 0 && !file.data, JSON.stringify(part));
  }
});

test("a name is one line of what can be seen", () => {
  assert.equal(nameOf("a\u202egnp.exe"), "agnp.exe");
  assert.equal(nameOf("../../etc/passwd"), ".._.._etc_passwd");
  assert.equal(nameOf(" a\n\tb\u0000 "), "ab");
  assert.equal(nameOf("a]\n[b"), "a__b");
  assert.equal(nameOf(""), "file");
  assert.equal(nameOf("\u200b"), "file");
  assert.equal(nameOf("<img src=x onerror=alert(1)>.txt"), "<img src=x onerror=alert(1)>.txt");
  const long = nameOf(`${"x".repeat(500)}.pdf`);
  assert.ok(long.length <= 100 && long.endsWith("….pdf"), long);
  assert.equal(shownOf([textPart("a]\n[b", "x")]).files.list[0].text, "x");
});

test("files of a message are few characters as JSON, however long they are", () => {
  const { files } = shownOf([picturePart(`data:image/png;base64,${"A".repeat(1e6)}`), textPart("a", "b".repeat(1e5))]);
  assert.ok(JSON.stringify(files).length < 100);
});

test("sizes are told in round numbers", () => {
  assert.deepEqual([sizeOf(0), sizeOf(999), sizeOf(1500), sizeOf(2_340_000)], ["0 B", "999 B", "2 kB", "2.3 MB"]);
});
