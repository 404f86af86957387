import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { isMap, parseDocument } from 'yaml';
import type { Plan } from '../../src/plan/model.ts';
import { identityOf } from '../../src/plan/mounts.ts';
import { readComposeProject } from '../../src/setup/compose-files.ts';
import { init } from '../../src/setup/init.ts';
import { planProposals } from '../../src/setup/propose.ts';
import { servicesOf } from '../../src/setup/services.ts';
import { withFiles } from './files.ts';
import { PRODUCTS } from './products.ts';

/** What `lifeboat init` writes into Compose files of real products must lead to a plan without errors. */

/** Runs init on a Compose file, and plans the result as a run would: with each volume under its real name. */
async function planAfterInit(yaml: string, files: Record<string, string> = {}) {
  const directory = await withFiles({ ...files, 'compose.yml': yaml });
  const run = () => init({ directory, files: [], image: 'lifeboat:latest', write: true, env: {} });
  const first = await run();
  const again = await run();
  const services = servicesOf(await readComposeProject(directory, [], {}), () => undefined);
  return { first, again, plan: planProposals(services, []) };
}

/** Removes the labels of Lifeboat from a Compose file. */
function unlabelled(yaml: string): string {
  const document = parseDocument(yaml);
  const services = document.get('services');
  if (!isMap(services)) throw new Error('no services');
  for (const { value } of services.items) if (isMap(value)) value.delete('labels');
  return document.toString();
}

function expectAccepted({ first, again, plan }: { first: unknown; again: unknown; plan: Plan }) {
  expect(first).toMatchObject({ written: true, byHand: [] });
  expect(again).toMatchObject({ written: false, labels: [] });
  expect(plan.problems.filter(({ severity }) => severity === 'error')).toEqual([]);
  const volumes = plan.sources.flatMap((source) => (source.kind === 'volume' ? [identityOf(source.mount)] : []));
  expect(volumes.toSorted()).toEqual([...new Set(volumes)].toSorted());
}

const DOCS = path.join(import.meta.dirname, '../../docs/recipes');

const recipes = readdirSync(DOCS)
  .filter((name) => name !== 'README.md')
  .flatMap((page) => readFileSync(path.join(DOCS, page), 'utf8').split(/^## /m).slice(1))
  .map((section) => ({
    product: section.split('\n')[0] ?? '',
    yaml: /```yaml\n([\s\S]*?)```/.exec(section)?.[1] ?? '',
    sources: [...(/^Sources: (.*)$/m.exec(section)?.[1] ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name),
  }));

describe.each(recipes)('the recipe for $product', ({ yaml, sources }) => {
  test('keeps its sources', async () => {
    const found = await planAfterInit(yaml);
    expectAccepted(found);
    expect(found.plan.sources.map(({ name }) => name)).toEqual(expect.arrayContaining(sources));
  });

  test('without labels leads to a plan with the same databases', async () => {
    const found = await planAfterInit(unlabelled(yaml));
    expectAccepted(found);
    const databases = (names: readonly (string | undefined)[]) => names.filter((name) => name?.endsWith('.postgres'));
    expect(databases(found.plan.sources.map(({ name }) => name))).toEqual(databases(sources));
  });
});

describe.each(PRODUCTS)('$product', ({ yaml, files, sources, stopped }) => {
  test('leads to a plan with all its data', async () => {
    const found = await planAfterInit(yaml, files);
    expectAccepted(found);
    expect(found.plan.sources.map(({ name }) => name)).toEqual(sources);
    const stops = found.plan.sources.filter((source) => source.kind === 'volume' && source.stop.length > 0);
    expect(stops.map(({ name }) => name)).toEqual(stopped);
  });
});
