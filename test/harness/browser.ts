import axe, { type AxeResults } from 'axe-core';
import { type Browser, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';

/** The sizes and colour schemes in which pages are tested. */
export const VIEWS = [
  { width: 1280, colorScheme: 'light' as const },
  { width: 1280, colorScheme: 'dark' as const },
  { width: 390, colorScheme: 'light' as const },
  { width: 390, colorScheme: 'dark' as const },
];

/** Starts the machine's Chromium. */
export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update'],
  });
}

/** Opens a page, opens all its details, and checks that axe finds no barrier and that it does not scroll sideways. */
export async function expectAccessible(page: Page, url: string): Promise<void> {
  await page.goto(url);
  for (const details of await page.locator('summary').all()) await details.click();
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate<AxeResults>('axe.run()');
  const found = violations.flatMap(({ id, nodes }) => nodes.map(({ html }) => `${id}: ${html.slice(0, 160)}`));
  const root = 'document.documentElement';
  const wide = await page.evaluate(`${root}.scrollWidth - ${root}.clientWidth`);
  expect({ url, found, wide }).toEqual({ url, found: [], wide: 0 });
}
