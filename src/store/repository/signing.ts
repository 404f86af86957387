import { createHmac, timingSafeEqual } from 'node:crypto';
import { z } from 'zod';
import { LifeboatError } from '../../base/errors.ts';
import { canonicalJson } from '../objects/manifest.ts';

/** The kind of a signed document. The signature covers the kind, so a tombstone can never pass for a pin. */
type SignedKind = 'manifest' | 'tombstone' | 'pin' | 'wal' | 'drill';

/** `unchecked`: no key is set. `unsigned`: a key is set, and the document has no signature. */
export type Verdict = 'signed' | 'unsigned' | 'unchecked';

const signature = z.strictObject({ algorithm: z.literal('hmac-sha256'), keyId: z.string(), value: z.string() });

/** The signature field of a document. */
type Signature = z.infer<typeof signature>;

interface Key {
  id: string;
  secret: string;
}

/**
 * Signs and verifies the documents of one repository. The first key signs; all of them verify, so that a key can be
 * changed. Without a key, documents are neither signed nor verified.
 */
export class Signing {
  private readonly keys: Key[];
  private readonly repository: string;

  /** @param repository the id in lifeboat.json; a document that was moved to another repository fails verification */
  constructor(repository: string, secrets: readonly string[] = []) {
    this.repository = repository;
    this.keys = secrets.map((secret) => ({ id: keyId(secret), secret }));
  }

  /** Returns whether a key is set. */
  get active(): boolean {
    return this.keys.length > 0;
  }

  /** Returns the document with its signature, or unchanged if no key is set. */
  sign<T extends object>(kind: SignedKind, document: T): T & { signature?: Signature } {
    const [key] = this.keys;
    if (!key) return document;
    const value = this.code(key, kind, document).toString('hex');
    return { ...document, signature: { algorithm: 'hmac-sha256', keyId: key.id, value } };
  }

  /**
   * Verifies the signature of a document.
   *
   * @param name names the document in messages
   * @param document the document as it was read, including the fields that this version does not know
   * @throws SIGNATURE_WRONG if the document was changed or was signed for another repository; SIGNATURE_KEY if none of
   * the keys has signed it
   */
  verify(kind: SignedKind, name: string, document: unknown): Verdict {
    if (!this.active) return 'unchecked';
    if (typeof document !== 'object' || document === null || !('signature' in document)) return 'unsigned';
    const { signature: given, ...signed } = document;
    const parsed = signature.safeParse(given);
    if (!parsed.success) throw wrong(name);
    const { keyId: id, value } = parsed.data;
    const key = this.keys.find((one) => one.id === id);
    if (!key) {
      throw new LifeboatError('SIGNATURE_KEY', `${name} was signed with another key (${visibleId(id)})`, {
        hint: 'Add that key to LIFEBOAT_SIGNING_KEY on a further line: the first key signs, all of them verify. If the key is lost, start again at an empty LIFEBOAT_DESTINATION. To restore what only that key signed, leave out LIFEBOAT_SIGNING_KEY for that restore: nothing is verified then.',
      });
    }
    const expected = this.code(key, kind, signed);
    const found = Buffer.from(value, 'hex');
    if (found.length !== expected.length || !timingSafeEqual(found, expected)) throw wrong(name);
    return 'signed';
  }

  private code({ secret }: Key, kind: SignedKind, document: object): Buffer {
    const signed = canonicalJson({ signs: kind, repository: this.repository, document });
    return createHmac('sha256', secret).update(signed).digest();
  }
}

/**
 * Verifies the text of a tombstone or pin like {@link Signing.verify}, and that it belongs to the snapshot in `place`.
 *
 * @throws SIGNATURE_WRONG; SIGNATURE_KEY; OBJECT_DAMAGED if the text is not JSON
 */
export function verifyText(
  signing: Signing,
  kind: SignedKind,
  text: string,
  place: { id: string; project: string },
): Verdict {
  const name = `the ${kind} of ${place.id}`;
  try {
    const document: unknown = JSON.parse(text);
    const verdict = signing.verify(kind, name, document);
    const at = z.object({ id: z.literal(place.id), project: z.literal(place.project) }).safeParse(document);
    if (verdict === 'signed' && !at.success) throw wrong(name);
    return verdict;
  } catch (error) {
    throw error instanceof LifeboatError ? error : new LifeboatError('OBJECT_DAMAGED', `${name} cannot be read`);
  }
}

/** Returns SIGNATURE_MISSING, for a document that is not signed although a key is set. */
export function unsigned(name: string): LifeboatError {
  return new LifeboatError('SIGNATURE_MISSING', `${name} is not signed`, {
    hint: 'It may be forged. If it is older than LIFEBOAT_SIGNING_KEY, and you trust everybody who has been able to write to the destination, add --unsigned.',
  });
}

function wrong(name: string): LifeboatError {
  return new LifeboatError('SIGNATURE_WRONG', `${name} is not what was signed`, {
    hint: 'It was changed, or it comes from another repository. Use another snapshot or another copy of the backups, and find out who could write there.',
  });
}

/** Returns an id that distinguishes keys and reveals nothing about them. */
function keyId(secret: string): string {
  return createHmac('sha256', secret).update('lifeboat signing key').digest('hex').slice(0, 8);
}

/** Returns the id of a key as messages show it. A manifest that was not verified may contain any text. */
export function visibleId(id: string): string {
  return /^[0-9a-f]{1,16}$/.test(id) ? id : 'of an unknown form';
}
