import type { Readable } from 'node:stream';
import { LifeboatError } from '../errors.ts';
import { type Filter, throughProgram } from './program.ts';

/** One thing that happens between plain bytes and stored bytes. Its suffix in the object's name says how to undo it. */
interface Stage {
  suffix: string;
  seal: Filter;
  unseal: Filter;
}

const zstd: Stage = {
  suffix: '.zst',
  seal: {
    command: 'zstd',
    // The checksum makes flipped bits an error at the time of reading.
    args: ['-q', '-c', '-T0', '-3', '--check'],
    failure: { code: 'TOOL_FAILED', message: 'compressing failed' },
  },
  unseal: {
    command: 'zstd',
    args: ['-q', '-d', '-c'],
    failure: { code: 'OBJECT_DAMAGED', message: 'an object cannot be decompressed' },
  },
};

/** In the order in which they are applied. */
const STAGES: readonly Stage[] = [zstd];

/** What an object goes through on its way into the repository. */
export interface SealOptions {
  compress: boolean;
}

/** The suffix that {@link seal} adds to the name of an object. */
export function sealSuffix(options: SealOptions): string {
  return stagesFor(options)
    .map((stage) => stage.suffix)
    .join('');
}

/**
 * Turns plain bytes into what is stored. The returned stream errors when `plain` does or a program fails; destroying it
 * ends the programs and destroys `plain`.
 */
export function seal(plain: Readable, options: SealOptions): { stream: Readable; suffix: string } {
  const stream = stagesFor(options).reduce((input, stage) => throughProgram(input, stage.seal), plain);
  return { stream, suffix: sealSuffix(options) };
}

/**
 * The inverse of {@link seal}, by the suffixes in the object's name.
 *
 * @throws FORMAT_UNSUPPORTED for encryption, which this version cannot undo; the stream errors with OBJECT_DAMAGED
 */
export function unseal(stored: Readable, name: string): Readable {
  let stream = stored;
  let rest = name;
  const encrypted = /\.(age|gpg)$/.exec(name);
  if (encrypted) {
    stored.destroy();
    throw new LifeboatError('FORMAT_UNSUPPORTED', `${name} is encrypted with ${encrypted[1]}`, {
      hint: 'Use the version of Lifeboat that wrote it, or a newer one.',
    });
  }
  for (const stage of [...STAGES].reverse()) {
    if (!rest.endsWith(stage.suffix)) continue;
    stream = throughProgram(stream, stage.unseal);
    rest = rest.slice(0, -stage.suffix.length);
  }
  return stream;
}

/** True for an object that can be read as it is stored, also in parts. */
export function isPlain(name: string): boolean {
  return !/\.(zst|age|gpg)$/.test(name);
}

function stagesFor(options: SealOptions): Stage[] {
  return STAGES.filter((stage) => stage !== zstd || options.compress);
}
