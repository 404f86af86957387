import { Readable } from 'node:stream';
import { LifeboatError } from '../../base/errors.ts';
import { DAMAGED } from './failures.ts';

/** The armor of age: the encrypted file as base64 between two lines, like PEM (RFC 7468). Only imports have it. */

const BEGIN = '-----BEGIN AGE ENCRYPTED FILE-----';
const END = '-----END AGE ENCRYPTED FILE-----';
/** The longest line that is read. age writes lines of 64 characters. */
const MAX_LINE = 1024;

/** Returns whether a file has the armor of age. */
export function isArmored(beginning: string): boolean {
  return beginning.startsWith(BEGIN);
}

/** Decodes an armored file. The stream fails with OBJECT_DAMAGED. */
export function removeArmor(armored: Readable): Readable {
  const decoded = Readable.from(decode(armored), { objectMode: false });
  // A generator that never ran does not end its input.
  decoded.once('close', () => armored.destroy());
  return decoded;
}

async function* decode(armored: Readable): AsyncGenerator<Buffer> {
  let isOpen = false;
  let isOver = false;
  let code = '';
  const read = (line: string) => {
    if (isOver) requireForm(line === '');
    else if (!isOpen) {
      requireForm(line === BEGIN);
      isOpen = true;
    } else if (line === END) isOver = true;
    else {
      requireForm(/^[A-Za-z0-9+/]+={0,2}$/.test(line) && line.length % 4 === 0 && !code.endsWith('='));
      code += line;
    }
  };
  let rest = '';
  for await (const data of armored) {
    requireForm(rest.length <= MAX_LINE);
    const lines = `${rest}${(data as Buffer).toString('latin1')}`.split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) read(line.trimEnd());
    if (code !== '' && !code.endsWith('=')) {
      yield Buffer.from(code, 'base64');
      code = '';
    }
  }
  read(rest.trimEnd());
  requireForm(isOver);
  yield Buffer.from(code, 'base64');
}

function requireForm(isRight: boolean): void {
  if (isRight) return;
  throw new LifeboatError(DAMAGED.code, DAMAGED.message, { cause: new Error('the armor is cut or was changed') });
}
