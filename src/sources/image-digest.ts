import type { Engine } from '../docker/engine.ts';

/**
 * Returns the name under which every engine can pull an image: `postgres@sha256:…`. The id of an image is known only to
 * the engines that have it. Returns undefined if no registry has it, or if the engine does not tell. Never rejects.
 */
export async function imageDigest(
  engine: Pick<Engine, 'inspectImage'>,
  image: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    return (await engine.inspectImage(image, { signal })).digests[0];
  } catch {
    return undefined;
  }
}
