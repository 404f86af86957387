import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createAdaptorServer } from '@hono/node-server';
import { chromium } from 'playwright-core';
import { readableSnapshots, serve } from './fixtures.ts';

/**
 * Takes the pictures of the page in the README: `node test/http/pictures.ts [DIRECTORY] [PATH…]`. The page shows the
 * shop of fixtures.ts, so the pictures change only when the page does.
 */

const [directory = path.join(import.meta.dirname, '../../docs/images'), ...paths] = process.argv.slice(2);

/** The pictures of the README, or both sizes and schemes of each given path. */
const SHOTS =
  paths.length === 0
    ? [
        { name: 'page-light', path: '/', width: 1100, height: 1000, scheme: 'light' as const },
        { name: 'page-dark-phone', path: '/', width: 400, height: 1000, scheme: 'dark' as const },
      ]
    : paths.flatMap((one) =>
        (['light', 'dark'] as const).flatMap((scheme) =>
          [1100, 390].map((width) => ({
            name: `${one.replaceAll(/\W+/g, '_')}-${scheme}-${width}`,
            ...{ path: one, width, height: 0, scheme },
          })),
        ),
      );

const state = mkdtempSync(path.join(tmpdir(), 'lifeboat-pictures-'));
const server = createAdaptorServer({ fetch: serve({ over: readableSnapshots(state) }).fetch });
await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
const address = server.address();
const port = typeof address === 'object' && address !== null ? address.port : 0;
const browser = await chromium.launch({ executablePath: '/usr/bin/chromium', args: ['--no-sandbox', '--disable-gpu'] });
for (const { name, path: at, width, height, scheme } of SHOTS) {
  const page = await browser.newPage({
    viewport: { width, height: height || 900 },
    ...{ colorScheme: scheme, deviceScaleFactor: height ? 1.5 : 1 },
  });
  await page.goto(`http://127.0.0.1:${port}${at}`);
  await writeFile(path.join(directory, `${name}.png`), await page.screenshot({ fullPage: !height }));
  await page.close();
}
await browser.close();
server.close();
rmSync(state, { recursive: true });
