// The little that replies are marked up with: code, bold, lists. Made of elements and text nodes; nothing is ever parsed as markup.

export function rich(text) {
  const made = document.createDocumentFragment();
  const pieces = text.split(/^```[^\n]*\n?/m);
  pieces.forEach((piece, number) => {
    if (number % 2) {
      const block = element("pre");
      block.tabIndex = 0;
      block.append(element("code", piece.replace(/\n$/, "")));
      made.append(block);
    } else made.append(...paragraphs(piece));
  });
  return made;
}

function paragraphs(text) {
  return text
    .split(/\n{2,}/)
    .filter((one) => one.trim())
    .map((one) => {
      const lines = one.replace(/^\n+|\n+$/g, "").split("\n");
      const bullet = /^\s*[-*•]\s+/;
      const number = /^\s*\d+[.)]\s+/;
      for (const [kind, mark] of [["ul", bullet], ["ol", number]]) {
        if (lines.length > 1 && lines.every((line) => mark.test(line))) {
          const list = element(kind);
          for (const line of lines) list.append(inline(element("li"), line.replace(mark, "")));
          return list;
        }
      }
      return inline(element("p"), lines.join("\n"));
    });
}

function inline(target, text) {
  for (const piece of text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
    if (/^`.+`$/.test(piece)) target.append(element("code", piece.slice(1, -1)));
    else if (/^\*\*.+\*\*$/.test(piece)) target.append(element("strong", piece.slice(2, -2)));
    else if (piece) target.append(piece);
  }
  return target;
}

export function element(name, text = null, className = null) {
  const made = document.createElement(name);
  if (text !== null) made.textContent = text;
  if (className !== null) made.className = className;
  return made;
}
