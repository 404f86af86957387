import { createCipheriv, hash } from 'node:crypto';
import { endOfChunk } from '../../../src/store/chunks/chunking.ts';

/** Bytes that look random, always the same for a name. */
export function noise(size: number, name: string): Buffer {
  const cipher = createCipheriv('aes-256-ctr', hash('sha256', name, 'buffer'), Buffer.alloc(16));
  return cipher.update(Buffer.alloc(size));
}

/** Cuts data into chunks. */
export function chunksOf(bytes: Buffer): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = endOfChunk(bytes, at, bytes.length);
    chunks.push(bytes.subarray(at, end));
    at = end;
  }
  return chunks;
}

export const sizesOf = (bytes: Buffer) => chunksOf(bytes).map(({ length }) => length);
