import type { Extract } from 'tar-stream';

/** The parts of the library that decode the records of a pax header. */
interface Internals {
  _header: { type: string };
  _pax: Record<string, string> | null;
  _paxGlobal: Record<string, string> | null;
  _decodeLongHeader(content: Buffer): void;
}

/**
 * Makes a reader of the library return pax records as bytes, one character for each. The library decodes them as UTF-8.
 * Names in records may have other bytes (`hdrcharset=BINARY`, and GNU tar in a C locale). Two such names can then
 * become the same text, and one file would replace the other. The library also ignores a damaged record, and would give
 * the file the short name of its header.
 */
export function readPaxAsBytes(reading: Extract): void {
  const reader = reading as unknown as Internals;
  const decode = reader._decodeLongHeader;
  reader._decodeLongHeader = (content) => {
    const { type } = reader._header;
    if (type === 'pax-global-header') reader._paxGlobal = { ...reader._paxGlobal, ...parsePax(content) };
    else if (type === 'pax-header') reader._pax = { ...reader._paxGlobal, ...parsePax(content) };
    else decode.call(reader, content);
  };
}

/**
 * Parses records of the form `LENGTH KEY=VALUE\n` (POSIX, pax, "pax Extended Header").
 *
 * @throws Error if a record is damaged
 */
function parsePax(content: Buffer): Record<string, string> {
  const records: Record<string, string> = Object.create(null);
  for (let at = 0; at < content.length && content[at] !== 0; ) {
    const [, digits = ''] = /^(\d{1,8}) /.exec(content.toString('latin1', at, at + 9)) ?? [];
    const end = at + Number(digits);
    const record = content.toString('latin1', at + digits.length + 1, end - 1);
    const equals = record.indexOf('=');
    if (digits === '' || end > content.length || content[end - 1] !== 10 || equals < 1) {
      throw new Error('a pax record is damaged');
    }
    records[record.slice(0, equals)] = record.slice(equals + 1);
    at = end;
  }
  return records;
}
