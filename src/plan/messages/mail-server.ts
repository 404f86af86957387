import type { Parsed } from '../values/fields.ts';

/**
 * Parses the URL of a mail server: `smtps://` (TLS from the first byte) or `smtp://` (STARTTLS), with an optional user
 * and password. Query: `tls=optional` sends also without TLS, `tls=none` never uses it.
 */
export function parseSmtpUrl(text: string): Parsed<string> {
  const trimmed = text.trim();
  const hint = 'write smtps://user:password@mail.example.org, with special characters of the password as %XX';
  const parsed = /\s/.test(trimmed) ? null : URL.parse(trimmed);
  if (parsed === null) return { problem: 'is not a URL', hint };
  if (parsed.protocol !== 'smtp:' && parsed.protocol !== 'smtps:')
    return { problem: 'is not an smtp or smtps URL', hint };
  if (parsed.hostname === '') return { problem: 'names no host', hint };
  if (![parsed.username, parsed.password].every(isDecodable))
    return { problem: 'has a % in the user or the password that begins no %XX', hint: 'write % as %25' };
  if (!['', '/'].includes(parsed.pathname)) return { problem: 'has a path', hint };
  const { tls, ...others } = Object.fromEntries(parsed.searchParams);
  const isKnown = tls === undefined || (parsed.protocol === 'smtp:' && ['optional', 'none'].includes(tls));
  if (Object.keys(others).length > 0 || !isKnown) {
    return { problem: 'has an unknown option', hint: 'the options of smtp:// are ?tls=optional and ?tls=none' };
  }
  return { value: trimmed };
}

function isDecodable(text: string): boolean {
  try {
    decodeURIComponent(text);
    return true;
  } catch {
    return false;
  }
}
