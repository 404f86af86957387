import { expect, test } from 'vitest';
import type { ContainerSummary } from '../../src/docker/answers.ts';
import { RUN_LABEL } from '../../src/docker/helper-labels.ts';
import { sharesNetwork } from '../../src/docker/network.ts';

const ID = 'a'.repeat(64);
const shares = (own: string, ...others: [mode: string, labels?: Record<string, string>, state?: string][]) => {
  const container = (id: string, name: string, networkMode: string, labels = {}, state = 'running') =>
    ({ id, name, networkMode, labels, state }) as ContainerSummary;
  const all = [
    ...(own === 'gone' ? [] : [container(ID, 'shop-db-1', own)]),
    ...others.map(([mode, labels, state], i) => container(`other-${i}`, `shop-other-${i}`, mode, labels, state)),
  ];
  const engine = { listContainers: async () => all, inspectContainer: async () => ({ networkMode: '' }) };
  return sharesNetwork(engine as never, ID);
};

test.each([
  ['shop_default', [['shop_default'], ['host'], ['none']], false],
  ['bridge', [[`container:${'b'.repeat(64)}`], ['container:shop-db-10']], false],
  ['shop_default', [[`container:${ID}`, { [RUN_LABEL]: 'helper' }]], false],
  ['shop_default', [[`container:${ID}`]], true],
  ['shop_default', [[`container:${ID}`, {}, 'exited']], false],
  ['shop_default', [[`container:${ID}`, {}, 'created']], false],
  ['shop_default', [[`container:${ID}`, {}, 'paused']], true],
  ['shop_default', [[`container:${ID}`, {}, 'restarting']], true],
  ['shop_default', [['container:shop-db-1']], true],
  ['shop_default', [[`container:${ID.slice(0, 12)}`]], true],
  [`container:${'b'.repeat(64)}`, [], true],
  ['host', [], true],
  ['', [], true],
  ['gone', [], true],
] as const)('a container on %s with neighbours %j shares its network: %s', async (own, others, expected) => {
  expect(await shares(own, ...(others as unknown as [string][]))).toBe(expected);
});
