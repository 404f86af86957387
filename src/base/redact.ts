/**
 * Secrets are hidden by value. A registered value never appears in a log line, error, notification or report, not even
 * encoded as base64 or in a URL.
 */
const MASK = '[redacted]';
const known = new Set<string>();
let ordered: string[] = [];

/** Values shorter than this are not hidden: masking every "a" would make logs useless and protect nothing. */
const MIN_LENGTH = 4;

/** Registers a secret value in all forms that output may contain. Returns the value, for use in expressions. */
export function registerSecret(value: string): string {
  if (value.length < MIN_LENGTH) return value;
  const bytes = Buffer.from(value, 'utf8');
  const url = encodeURIComponent(value);
  const form = new URLSearchParams([['', value]]).toString().slice(1);
  const forms = [value, JSON.stringify(value).slice(1, -1), url, lowerEscapes(url), encodeURI(value), form];
  forms.push(bytes.toString('base64'), bytes.toString('base64url'), bytes.toString('hex'), ...insideBase64(bytes));
  for (const text of forms) known.add(text.replace(/=+$/, '') || text);
  known.add(value);
  // Longest first: a secret that contains another one is masked as a whole.
  ordered = [...known].sort((a, b) => b.length - a.length);
  return value;
}

/** Forgets all secrets. For tests, which share a process. */
export function forgetSecrets(): void {
  known.clear();
  ordered = [];
}

function lowerEscapes(url: string): string {
  return url.replace(/%[0-9A-F]{2}/g, (code) => code.toLowerCase());
}

/** Shorter pieces of base64 occur by chance. */
const MIN_BASE64 = 8;

/**
 * Returns the forms of a secret within the base64 of a longer text (`user:secret`). They depend on where in a group of
 * three bytes the secret starts.
 */
function insideBase64(bytes: Buffer): string[] {
  const pieces: string[] = [];
  for (const before of [0, 1, 2]) {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString('base64');
    // Only characters that depend on nothing but the secret.
    const piece = text.slice(Math.ceil((before * 8) / 6), Math.floor(((before + bytes.length) * 8) / 6));
    if (piece.length >= MIN_BASE64) pieces.push(piece, piece.replaceAll('+', '-').replaceAll('/', '_'));
  }
  return pieces;
}

/** Replaces every registered secret in `text`. */
export function redact(text: string): string {
  let result = text;
  for (const secret of ordered) if (result.includes(secret)) result = result.replaceAll(secret, MASK);
  return result;
}

/**
 * Applies {@link redact} to every string in a JSON-like value, one by one. In the serialised text, a secret of digits
 * could match inside a number, and the result would not be JSON.
 */
export function redactDeep<T>(value: T): T {
  return JSON.parse(JSON.stringify(value), (_key, part: unknown) =>
    typeof part === 'string' ? redact(part) : part,
  ) as T;
}
