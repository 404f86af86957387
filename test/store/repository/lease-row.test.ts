import { expect, test } from 'vitest';
import type { ReplacingDestination } from '../../../src/destinations/destination.ts';
import { streamOf } from '../../../src/store/objects/objects.ts';
import { leaseKey, replacesSafely } from '../../../src/store/repository/lease-row.ts';

test('the answer of one server says nothing about another one that has a bucket of the same name', async () => {
  const server = (place: string, checksVersions: boolean) =>
    ({
      ...{ name: 's3://acme/shop', place },
      get: async (key: string) => {
        expect(key).toBe(leaseKey('shop', 1));
        return streamOf('lease');
      },
      replace: async (_: string, __: Buffer, version: string) => !checksVersions || version === 'right',
    }) as unknown as ReplacingDestination;
  const lease = { number: 1, version: 'right' };
  const asked = (destination: ReplacingDestination) => replacesSafely({ destination, project: 'shop' }, lease);
  expect(await asked(server('careless', false))).toBe(false);
  expect(await asked(server('careful', true))).toBe(true);
  // Each server is asked once.
  expect(await asked(server('careful', false))).toBe(true);
});
