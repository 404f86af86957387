/** The parts of a tar that the library does not write. */

/** Size of a block, the unit of a tar. Bytes. */
export const BLOCK = 512;

/** Returns the header of a pax record that does not follow (ustar, POSIX, pax, "ustar Interchange Format"). */
export function danglingHeader(): Buffer {
  const header = Buffer.alloc(BLOCK);
  header.write('this-export-failed', 0);
  header.write(['0000644', '0000000', '0000000', '00000001000', '00000000000', `${' '.repeat(8)}x`].join('\0'), 100);
  header.write('ustar\x0000', 257, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

/** Formats a time as pax does: `1700000000.123456789`. */
export function seconds(nanoseconds: bigint): string {
  const sign = nanoseconds < 0n ? '-' : '';
  const absolute = nanoseconds < 0n ? -nanoseconds : nanoseconds;
  const rest = String(absolute % 1_000_000_000n)
    .padStart(9, '0')
    .replace(/0+$/, '');
  return `${sign}${absolute / 1_000_000_000n}${rest === '' ? '' : `.${rest}`}`;
}
