import { expect, test } from 'vitest';
import { imageDigest } from '../../src/sources/image-digest.ts';

const signal = new AbortController().signal;
const engine = (inspectImage: () => Promise<unknown>) => ({ inspectImage }) as never;

test('an image is named as its registry names it', async () => {
  const digests = ['postgres@sha256:aa', 'mirror/postgres@sha256:aa'];
  expect(
    await imageDigest(
      engine(async () => ({ digests })),
      'sha256:bb',
      signal,
    ),
  ).toBe('postgres@sha256:aa');
});

test('an image without a registry has no such name, and an engine that does not tell fails no backup', async () => {
  expect(
    await imageDigest(
      engine(async () => ({ digests: [] })),
      'sha256:bb',
      signal,
    ),
  ).toBeUndefined();
  const refuse = async () => {
    throw new Error('forbidden');
  };
  expect(await imageDigest(engine(refuse), 'sha256:bb', signal)).toBeUndefined();
});
