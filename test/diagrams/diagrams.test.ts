import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { renderDiagram } from './render.ts';

const IMAGES = path.join(import.meta.dirname, '../../docs/images');
const names = readdirSync(IMAGES).filter((name) => name.endsWith('.diagram'));

test('there are diagrams', () => {
  expect(names.length).toBeGreaterThan(1);
});

test.each(names)('%s is drawn as its text says (UPDATE_DOCS=1 draws it)', (name) => {
  const svg = renderDiagram(readFileSync(path.join(IMAGES, name), 'utf8'));
  const file = path.join(IMAGES, name.replace(/\.diagram$/, '.svg'));
  if (process.env.UPDATE_DOCS) writeFileSync(file, svg);
  expect(readFileSync(file, 'utf8')).toBe(svg);
  // No box reaches beyond the picture.
  const [, width = ''] = /viewBox="0 0 (\d+)/.exec(svg) ?? [];
  const right = [...svg.matchAll(/<rect x="([\d.]+)".*? width="([\d.]+)"/g)].map(
    ([, x, own]) => Number(x) + Number(own),
  );
  expect(right.length).toBeGreaterThan(3);
  expect(Math.max(...right)).toBeLessThan(Number(width));
});

test('a line that is no row is refused', () => {
  expect(() => renderDiagram('a -> b')).toThrow('not a box: a');
});
