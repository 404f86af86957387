import type { Parsed } from './fields.ts';

const BECH32 = 'qpzry9x8gf2tvdw0s3jn54khce6mua7l';
const GENERATOR = [0x3b6a57b2, 0x26508e6d, 0x1ea119fa, 0x3d4233dd, 0x2a1462b3];
/** 32 bytes in groups of five bits, and the checksum */
const KEY_LENGTH = 52 + 6;

/** Returns true for an age key with the prefix. A mistyped letter makes the checksum wrong (BIP 173, Bech32). */
function isAgeKey(text: string, prefix: string): boolean {
  const data = text.slice(prefix.length + 1);
  if (!text.startsWith(`${prefix}1`) || data.length !== KEY_LENGTH) return false;
  const values = [...data].map((letter) => BECH32.indexOf(letter));
  if (values.includes(-1)) return false;
  const codes = [...prefix].map((letter) => letter.charCodeAt(0));
  const expanded = [...codes.map((code) => code >> 5), 0, ...codes.map((code) => code & 31), ...values];
  let check = 1;
  for (const value of expanded) {
    const top = check >>> 25;
    check = ((check & 0x1ffffff) << 5) ^ value;
    for (let i = 0; i < 5; i++) if ((top >> i) & 1) check ^= GENERATOR[i]!;
  }
  return check === 1;
}

/**
 * Returns the items of a list, separated by commas or lines, without lines that start with `#` as in age's own files.
 */
function items(text: string): string[] {
  const lines = text.split(/\r?\n/).filter((line) => !line.trimStart().startsWith('#'));
  return lines.flatMap((line) => line.split(',').map((item) => item.trim())).filter((item) => item !== '');
}

/** Parses age public keys. */
export function ageRecipients(text: string): Parsed<string[]> {
  const keys = [...new Set(items(text))];
  const hint = 'write the line that age-keygen -y shows, age1…; several with a comma between them';
  if (keys.length === 0) return { problem: 'names no key', hint };
  if (/AGE-SECRET|PRIVATE KEY/i.test(text)) {
    return { problem: 'holds a private key', hint: 'write the public one, which age-keygen -y shows', hidden: true };
  }
  const wrong = keys.findIndex((key) => !isAgeKey(key, 'age'));
  if (wrong < 0) return { value: keys };
  const which =
    keys.length === 1 ? 'is not an age public key' : `has something that is no age public key, item ${wrong + 1}`;
  return { problem: which, hint: `${hint}. A letter may be mistyped` };
}

/** Parses age private keys, as `age-keygen` writes them. The value has one key a line. */
export function ageIdentity(text: string): Parsed<string> {
  const keys = items(text);
  const hint = 'give what age-keygen wrote: a line AGE-SECRET-KEY-1… for each key';
  if (keys.length === 0) return { problem: 'holds no key', hint };
  const wrong = keys.some((key) => !isAgeKey(key.toLowerCase(), 'age-secret-key-') || key !== key.toUpperCase());
  return wrong ? { problem: 'has a line that is no age private key', hint } : { value: keys.join('\n') };
}

/** Parses a passphrase, which gpg reads as one line. */
export function passphrase(text: string): Parsed<string> {
  const value = text.replace(/\r?\n$/, '');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: gpg ends a passphrase there
  if (/[\x00\r\n]/.test(value)) return { problem: 'has more than one line', hint: 'write one line' };
  return { value };
}

/** Parses armored OpenPGP keys of one kind. Only gpg can check that they are usable. */
export function armored(kind: 'PUBLIC' | 'PRIVATE', command: string) {
  const begin = `-----BEGIN PGP ${kind} KEY BLOCK-----`;
  return (text: string): Parsed<string> => {
    const hint = `give what ${command} prints, best as a file`;
    const other = kind === 'PUBLIC' ? 'PRIVATE' : 'PUBLIC';
    if (text.includes(`BEGIN PGP ${other} KEY BLOCK`)) {
      return { problem: `holds a ${other.toLowerCase()} key`, hint, hidden: true };
    }
    const whole = text.includes(begin) && text.includes(`-----END PGP ${kind} KEY BLOCK-----`);
    return whole ? { value: `${text.trim()}\n` } : { problem: 'holds no armored OpenPGP key', hint, hidden: true };
  };
}
