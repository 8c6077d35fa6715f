// Markdown of answers as trees of elements, without a browser.

import assert from "node:assert/strict";
import { test } from "node:test";

const { blocksOf, spoken } = await import(`${process.env.PAGE}/markdown.js`);

const TAGS = /^(p|h[2-6]|blockquote|ul|ol|li|hr|br|em|strong|s|code|pre|a|table|thead|tbody|tr|th|td|input)$/;
const ATTRIBUTES = {
  a: ["href", "rel", "target", "title"], input: ["aria-label", "checked", "disabled", "type"], ol: ["start"],
  th: ["class", "scope"], td: ["class"], li: ["class"], h2: ["class"], h3: ["class"], h4: ["class"], h5: ["class"], h6: ["class"],
};

// As in HTML, for reading; `pre` with its language.
function html(text, isLive = false) {
  const one = (tree) => {
    if (typeof tree === "string") return tree;
    if (tree.tag === "pre") return `<pre ${tree.language}>${tree.code}</pre>`;
    const attrs = Object.entries(tree.attrs).filter(([name]) => !["rel", "target", "title", "scope"].includes(name));
    return `<${tree.tag}${attrs.map(([name, value]) => ` ${name}="${value}"`).join("")}>${tree.children.map(one).join("")}</${tree.tag}>`;
  };
  return blocksOf(text, isLive).flatMap((block) => block.draw().map(one)).join("");
}

function check(text, isLive) {
  const walk = (tree) => {
    if (typeof tree === "string") return;
    assert.match(tree.tag, TAGS, text);
    for (const [name, value] of Object.entries(tree.attrs)) {
      assert.ok(ATTRIBUTES[tree.tag]?.includes(name), `${tree.tag} ${name} of ${text}`);
      if (name === "href") assert.match(value, /^(https?:\/\/|mailto:|tel:)/i, text);
    }
    tree.children.forEach(walk);
  };
  for (const block of blocksOf(text, isLive)) block.draw().forEach(walk);
}

test("the usual blocks", () => {
  assert.equal(html("# One\n\n###### Six"), '<h2 class="h1">One</h2><h3 class="h6">Six</h3>');
  assert.equal(html("### Three\n\n> #### Four\n\n# One"),
    '<h2 class="h3">Three</h2><blockquote><h3 class="h4">Four</h3></blockquote><h2 class="h1">One</h2>');
  assert.equal(html("a\nb"), "<p>a<br></br>b</p>");
  assert.equal(html("> a\n> > b"), "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote>");
  assert.equal(html("1. a\n   - b\n     - c\n2. d"), "<ol><li>a<ul><li>b<ul><li>c</li></ul></li></ul></li><li>d</li></ol>");
  assert.equal(html("7. a"), '<ol start="7"><li>a</li></ol>');
  assert.equal(html("- a\n\n- b"), "<ul><li><p>a</p></li><li><p>b</p></li></ul>");
  assert.equal(html("a\n\n---\n\nb"), "<p>a</p><hr></hr><p>b</p>");
  assert.equal(html("*a* **b** ~~c~~ `d`"), "<p><em>a</em> <strong>b</strong> <s>c</s> <code>d</code></p>");
  assert.equal(html("| a | b |\n|:-:|--:|\n| 1 | **2** |"),
    '<table><thead><tr><th class="center">a</th><th class="right">b</th></tr></thead>' +
    '<tbody><tr><td class="center">1</td><td class="right"><strong>2</strong></td></tr></tbody></table>');
});

test("code keeps every character, and its language is a word", () => {
  assert.equal(html("```python title=x\na < b\n\n  *c*\n```"), "<pre python>a < b\n\n  *c*</pre>");
  assert.equal(html('```"><b>\nx\n```'), "<pre >x</pre>");
  assert.equal(html("~~~c++\nx\n~~~"), "<pre c++>x</pre>");
});

test("a list of tasks", () => {
  assert.equal(html("- [x] a\n- [ ] b\n- [y] c\n- d [x] e"),
    '<ul><li class="task"><input type="checkbox" disabled="" checked="" aria-label="Done"></input>a</li>' +
    '<li class="task"><input type="checkbox" disabled="" aria-label="Open"></input>b</li><li>[y] c</li><li>d [x] e</li></ul>');
  assert.equal(html("[x] no list"), "<p>[x] no list</p>");
  assert.equal(html("- a\n\n  [x] b"), "<ul><li><p>a</p><p>[x] b</p></li></ul>");
});

test("markup is text", () => {
  const evil = '<img src=x onerror="alert(1)"><script>alert(2)</script>';
  for (const text of [evil, `**${evil}**`, `- ${evil}`, `| ${evil} |\n|---|\n| ${evil} |`, `\`${evil}\``]) {
    assert.ok(html(text).includes(evil), text);
    check(text);
  }
  assert.equal(html("&lt;b&gt; \\*a\\*"), "<p><b> *a*</p>");
});

test("links lead to addresses of the web, to mail and to telephones", () => {
  for (const bad of [
    "javascript:alert(1)", "JaVaScRiPt:alert(1)", "java&#115;cript:alert(1)", " javascript:alert(1)", "&#1;javascript:alert(1)", "vbscript:x",
    "data:text/html,x", "data:image/png;base64,AAAA", "file:///etc/passwd", "//evil.example", "/relative", "#anchor", "blob:x", "view-source:x",
  ]) {
    for (const text of [`[x](${bad})`, `[x](<${bad}>)`, `<${bad}>`, `![x](${bad})`, `[x][1]\n\n[1]: <${bad}>`]) {
      assert.ok(!html(text).includes("<a"), text);
    }
  }
  assert.equal(html("[x](https://a.example/?b=c&d)"), '<p><a href="https://a.example/?b=c&d">x</a></p>');
  assert.equal(html("https://a.example/b."), '<p><a href="https://a.example/b">https://a.example/b</a>.</p>');
  assert.equal(html("<mailto:a@b.example> [t](tel:+49123)"),
    '<p><a href="mailto:a@b.example">mailto:a@b.example</a> <a href="tel:+49123">t</a></p>');
  assert.equal(html("example.com a@b.example 10.0.0.1"), "<p>example.com a@b.example 10.0.0.1</p>");
  const [{ children: [{ attrs }] }] = blocksOf("[x](https://a.example)")[0].draw();
  assert.deepEqual([attrs.target, attrs.rel, attrs.title], ["_blank", "noopener noreferrer nofollow", "https://a.example"]);
});

test("a link that looks like another address shows its own", () => {
  assert.equal(html("[https://bank.example](https://evil.example/x)"),
    '<p><a href="https://evil.example/x">https://bank.example (evil.example)</a></p>');
  assert.ok(html("[www.bank.example](https://evil.example)").includes("(evil.example)"));
  assert.ok(html("[https://bank.example@evil.example](https://evil.example)").endsWith("@evil.example</a></p>"));
  assert.ok(!html("[https://a.example/x](https://a.example/y)").includes("("));
});

test("pictures of other hosts are links, not loaded", () => {
  assert.equal(html("![A lamp](https://a.example/l.png)"), '<p><a href="https://a.example/l.png">A lamp</a></p>');
  assert.equal(html("![](https://a.example/l.png)"), '<p><a href="https://a.example/l.png">Picture</a></p>');
});

test("what is still being written looks as it will", () => {
  assert.equal(html("so **bold", true), "<p>so <strong>bold</strong></p>");
  assert.equal(html("so `code", true), "<p>so <code>code</code></p>");
  assert.equal(html("see [the page](https://exam", true), "<p>see the page</p>");
  assert.equal(html("```js\nconst a = **", true), "<pre js>const a = **</pre>");
  assert.ok(!html("Options:\n-", true).includes("<h"));
  assert.equal(html("Two:\n\n| a | b |", true), "<p>Two:</p>");
  assert.equal(html("Two:\n\n| a | b |\n|---|--", true), "<p>Two:</p>");
  assert.ok(html("| a | b |\n|---|---|\n", true).startsWith("<table>"));
  assert.ok(html("| a | b |\n|---|---|\n| 1", true).includes("<td>1</td>"));
  assert.equal(html("| a | b |"), "<p>| a | b |</p>");
});

test("blocks that are complete keep their key while the next ones are written", () => {
  const text = "# A\n\nb **c**\n\n```js\nd\n```\n\n- e\n- f\n\n| g |\n|---|\n| h |\n\nend";
  let before = [];
  for (let length = 1; length <= text.length; length++) {
    const keys = blocksOf(text.slice(0, length), true).map((block) => block.key);
    const stable = Math.max(0, Math.min(before.length, keys.length) - 1);
    assert.deepEqual(keys.slice(0, stable), before.slice(0, stable), text.slice(0, length));
    before = keys;
  }
});

test("a reference that is defined later changes what was drawn before", () => {
  const [before] = blocksOf("[x][1]", true);
  const [after] = blocksOf("[x][1]\n\n[1]: https://a.example", true);
  assert.notEqual(before.key, after.key);
});

test("aloud there are words, no marks", () => {
  assert.equal(spoken("# One\n\n**two** [three](https://a.example) `four`\n\n- five\n- six"), "One two three four five six");
  assert.equal(spoken("Plain 🙈 text."), "Plain 🙈 text.");
});

test("whatever is written, whole or in part, becomes only these elements", () => {
  let seed = 7;
  const dice = (most) => ((seed = (seed * 1103515245 + 12345) % 2147483648) % most);
  const pieces = [
    "a", " ", "\n", "\n\n", "*", "**", "_", "`", "```", "~~~", "~~", "[", "]", "(", ")", "![", "](", "<", ">", "&#106;", "&amp;", "javascript:", "https://x.y",
    "#", "|", "|---|", "- ", "1. ", "- [x] ", "> ", "    ", "\t", "\\", "<script>", '" onclick="', "\u0000", "\u202e", "🙈", "---", "===", "[1]: ", "$$", ":",
  ];
  for (let round = 0; round < 3000; round++) {
    let text = "";
    for (let count = 1 + dice(40); count > 0; count--) text += pieces[dice(pieces.length)];
    check(text, false);
    check(text, true);
    spoken(text);
  }
});

test("deep nesting and long repetitions are read in time", () => {
  const began = performance.now();
  for (const text of [
    "> ".repeat(20000) + "x", "- ".repeat(5000) + "x", "[".repeat(20000), "*a ".repeat(20000), "`".repeat(20000), "![".repeat(10000), "**".repeat(20000) + "x",
    "<".repeat(20000), "| a ".repeat(5000), "a\n".repeat(20000), "[a](".repeat(5000), "~~".repeat(20000), "_a_ ".repeat(10000),
  ]) {
    check(text, false);
    check(text, true);
  }
  assert.ok(performance.now() - began < 20000, `${performance.now() - began} ms`);
});
