import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { holder, Stack } from '../test/harness/stack.ts';
import { shell } from './measure.ts';

/** A scratch directory with a tree in it, an age key, and what is to be taken away at the end. */
export interface Place {
  directory: string;
  /** the tree */
  media: string;
  /** age's public key */
  recipient: string;
}

/** Runs `work` in a new place; everything made there is gone afterwards. */
export async function withPlace<T>(work: (place: Place) => Promise<T>): Promise<T> {
  const directory = await mkdtemp(path.join(tmpdir(), 'lifeboat-bench-'));
  try {
    const identity = path.join(directory, 'identity');
    await shell(`age-keygen -o ${identity} 2>/dev/null`);
    const recipient = (await shell(`age-keygen -y ${identity}`)).trim();
    await writeFile(path.join(directory, 'password'), 'benchmark');
    return await work({ directory, media: path.join(directory, 'media'), recipient });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** An agent that has the tree mounted and backs it up with these settings. */
export function stackOver({ media }: Place, image: string, env: Record<string, string>): Promise<Stack> {
  return Stack.start({
    services: { web: holder([`${media}:/media`], { 'lifeboat.volumes': '/media' }) },
    agent: { volumes: [`${media}:/seen:ro`] },
    receiver: false,
    image,
    env,
  });
}
