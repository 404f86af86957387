/**
 * Diagrams as SVG, made from text. A line that begins with `#` is a heading. Any other line is a row of boxes with arrows
 * between them: `[name: detail] -> [name]`. A bar stacks two boxes: `[one | other: detail]`.
 */

const WIDTH = 960;
const BOX_HEIGHT = 34;
const LINE = 17;
const ARROW = 26;
/** Average widths of letters, in pixels: of 14 px bold for names, of 12 px for details. */
const NAME_LETTER = 8.8;
const DETAIL_LETTER = 6.8;
/** The longest line of a detail, in letters. */
const DETAIL_LETTERS = 20;

/** The colours of a page in its light and its dark scheme. */
const STYLE = `
text { font-family: system-ui, sans-serif; fill: #1c2530 }
.title { font-size: 15px; font-weight: 600; fill: #48566a }
.name { font-size: 14px; font-weight: 600 }
.detail { font-size: 12px; fill: #48566a }
rect { fill: #eef3f9; stroke: #7a92b0 }
path { stroke: #48566a; fill: none; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf5 } .title, .detail { fill: #a9b8ca }
rect { fill: #1d2733; stroke: #5f7896 } path { stroke: #a9b8ca }
}`;

interface Box {
  name: string;
  detail: string[];
  width: number;
  height: number;
}

/** Boxes on top of each other. */
interface Stack {
  boxes: Box[];
  width: number;
  height: number;
}

/** Renders the text of a diagram. @throws if a line is neither a heading nor a row */
export function renderDiagram(text: string): string {
  let y = 12;
  const parts: string[] = [];
  for (const line of text.split('\n').filter((one) => one.trim() !== '')) {
    if (line.startsWith('#')) {
      parts.push(textAt(12, y + 16, 'title', line.slice(1).trim()));
      y += 30;
      continue;
    }
    for (const [i, row] of wrap(parseRow(line)).entries()) {
      const height = Math.max(...row.map((stack) => stack.height));
      parts.push(...renderRow(row, { top: y, height, continues: i > 0 }));
      y += height + 18;
    }
    y += 6;
  }
  const title = escapeXml(/^#\s*(.*)$/m.exec(text)?.[1] ?? '');
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" role="img" aria-label="${title}">`,
    `<title>${title}</title>`,
    `<style>${STYLE}</style>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
}

function parseRow(line: string): Stack[] {
  return line.split(/\s*->\s*/).map((cell) => {
    const inner = /^\[(.+)\]$/.exec(cell.trim())?.[1];
    if (inner === undefined) throw new Error(`not a box: ${cell}`);
    const boxes = inner.split('|').map((one) => boxOf(one.trim()));
    const width = Math.max(...boxes.map((box) => box.width));
    const height = boxes.reduce((sum, box) => sum + box.height + 6, -6);
    return { boxes, width, height };
  });
}

function boxOf(text: string): Box {
  const [name = '', ...rest] = text.split(': ');
  const detail = lines(rest.join(': '));
  const longest = Math.max(name.length * NAME_LETTER, ...detail.map((one) => one.length * DETAIL_LETTER));
  return { name, detail, width: Math.round(longest) + 20, height: BOX_HEIGHT + detail.length * LINE };
}

/** Breaks a detail between words. */
function lines(text: string): string[] {
  const all: string[] = [];
  for (const word of text.split(' ').filter((one) => one !== '')) {
    const last = all.at(-1);
    if (last !== undefined && `${last} ${word}`.length <= DETAIL_LETTERS) all[all.length - 1] = `${last} ${word}`;
    else all.push(word);
  }
  return all;
}

/** Breaks a row that is wider than the diagram. */
function wrap(row: readonly Stack[]): Stack[][] {
  const rows: Stack[][] = [[]];
  let width = 12;
  for (const stack of row) {
    if (width + stack.width > WIDTH - 12 && rows.at(-1)?.length) {
      rows.push([]);
      width = 12 + ARROW;
    }
    rows.at(-1)?.push(stack);
    width += stack.width + ARROW;
  }
  return rows;
}

function renderRow(
  row: readonly Stack[],
  { top, height, continues }: { top: number; height: number; continues: boolean },
): string[] {
  let x = continues ? 12 + ARROW : 12;
  const middle = top + height / 2;
  const arrowAt = (from: number) => `<path d="M${from} ${middle}h20m-6 -5l6 5l-6 5"/>`;
  const boxes = row.flatMap(({ boxes, width, height: own }, i) => {
    const parts: string[] = [];
    let y = top + (height - own) / 2;
    for (const box of boxes) {
      parts.push(`<rect x="${x}" y="${y}" width="${width}" height="${box.height}" rx="6"/>`);
      parts.push(textAt(x + 10, y + 22, 'name', box.name));
      box.detail.forEach((one, n) => {
        parts.push(textAt(x + 10, y + 22 + (n + 1) * LINE, 'detail', one));
      });
      y += box.height + 6;
    }
    if (i < row.length - 1) parts.push(arrowAt(x + width + 3));
    x += width + ARROW;
    return parts;
  });
  return continues ? [arrowAt(15), ...boxes] : boxes;
}

function textAt(x: number, y: number, style: string, text: string): string {
  return `<text x="${x}" y="${y}" class="${style}">${escapeXml(text)}</text>`;
}

function escapeXml(text: string): string {
  return text.replace(/&/g, '&amp;').replace(/</g, '&lt;').replace(/"/g, '&quot;');
}
