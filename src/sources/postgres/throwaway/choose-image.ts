import { LifeboatError } from '../../../base/errors.ts';
import type { Engine } from '../../../docker/engine.ts';
import { isNotFound } from '../../../docker/engine-errors.ts';

/** The image that a restored server runs on. */
interface ChosenImage {
  id: string;
  /** `postgres@sha256:…`, as registries name it; absent if no registry has it */
  digest?: string;
  /** it is the image that was recorded with the snapshot */
  recorded: boolean;
}

/**
 * Chooses the image for a restored server: the recorded one, by its id or by its name in a registry, else the one that
 * the source has now.
 *
 * @throws HELPER_FAILED if neither is on this engine
 */
export async function chooseImage(
  engine: Pick<Engine, 'inspectImage'>,
  recorded: { image?: string | undefined; imageDigest?: string | undefined },
  present: string | undefined,
): Promise<ChosenImage> {
  const { image: id, imageDigest } = recorded;
  for (const name of new Set([id, imageDigest, present])) {
    if (name === undefined || name === '') continue;
    try {
      const image = await engine.inspectImage(name);
      const digest = name === imageDigest ? imageDigest : image.digests[0];
      return {
        id: image.id,
        ...(digest === undefined ? {} : { digest }),
        recorded: name === id || name === imageDigest,
      };
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  const which = imageDigest ?? id ?? 'that the snapshot was made with';
  throw new LifeboatError('HELPER_FAILED', `the image ${which} is not on this Docker engine`, {
    hint: `Start the database of the source, or run \`docker pull ${imageDigest ?? 'IMAGE'}\` with its image, and try again.`,
  });
}
