import { expect, test } from 'vitest';
import { LifeboatError } from '../../../../src/base/errors.ts';
import { chooseImage } from '../../../../src/sources/postgres/throwaway/choose-image.ts';

/** An engine with some images. */
const engine = (...ids: string[]) => ({
  async inspectImage(id: string) {
    if (ids.includes(id)) return { id, digests: [`postgres@${id}`], labels: {}, env: {} } as never;
    throw new LifeboatError('ENGINE_REFUSED', 'no such image', {
      cause: Object.assign(new Error('no such image'), { statusCode: 404 }),
    });
  },
});

test('the recorded image is taken, by its id or its name in a registry, else the one that the source has now', async () => {
  const recorded = { image: 'old', imageDigest: 'postgres@sha256:0' };
  expect(await chooseImage(engine('old', 'new'), recorded, 'new')).toEqual({
    ...{ id: 'old', digest: 'postgres@old', recorded: true },
  });
  expect(await chooseImage(engine('postgres@sha256:0', 'new'), recorded, 'new')).toMatchObject({
    ...{ digest: 'postgres@sha256:0', recorded: true },
  });
  expect(await chooseImage(engine('new'), recorded, 'new')).toMatchObject({ id: 'new', recorded: false });
  // A source that is not in the plan has no image.
  for (const present of [undefined, '', 'gone'])
    await expect(chooseImage(engine('new'), recorded, present)).rejects.toMatchObject({
      ...{ code: 'HELPER_FAILED', hint: expect.stringContaining('docker pull postgres@sha256:0') },
    });
});
