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
 * Chooses the image for a restored server: the recorded one, else the one that the source has now.
 *
 * @throws HELPER_FAILED if neither is on this engine
 */
export async function chooseImage(
  engine: Pick<Engine, 'inspectImage'>,
  recorded: string | undefined,
  present: string | undefined,
): Promise<ChosenImage> {
  for (const id of new Set([recorded, present])) {
    if (id === undefined || id === '') continue;
    try {
      const image = await engine.inspectImage(id);
      const [digest] = image.digests;
      return { id: image.id, ...(digest === undefined ? {} : { digest }), recorded: id === recorded };
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }
  const which = recorded ?? 'that the snapshot was made with';
  throw new LifeboatError('HELPER_FAILED', `the image ${which} is not on this Docker engine`, {
    hint: 'Start the database of the source, or pull its image with `docker pull`, and try again.',
  });
}
