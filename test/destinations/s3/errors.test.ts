import { expect, test } from 'vitest';
import { errorInfo } from '../../../src/base/errors.ts';
import { explainS3, type S3Act } from '../../../src/destinations/s3/errors.ts';

/** An error as the SDK throws it. */
function answer(name: string, status: number, message = 'UnknownError'): Error {
  return Object.assign(new Error(message), { name, $metadata: { httpStatusCode: status } });
}

const codeOf = (error: Error, act: S3Act) => explainS3(error, act, 's3://acme/shop').code;

test('an archived object is reported as such, when it is read and when it is copied back', () => {
  expect(codeOf(answer('InvalidObjectState', 403), 'get')).toBe('OBJECT_ARCHIVED');
  expect(codeOf(answer('ObjectNotInActiveTierError', 403), 'undelete')).toBe('OBJECT_ARCHIVED');
});

test('a refused delete is no failure of the destination, however the server words it', () => {
  for (const kept of [
    answer('AccessDenied', 403),
    answer('AccessDenied', 403, 'forbidden by object lock'),
    answer('ObjectLockedByBucketPolicy', 409, 'The object is locked'),
    answer('InvalidRequest', 400, 'Object is WORM protected and cannot be overwritten: retention'),
  ]) {
    expect(codeOf(kept, 'delete'), kept.name).toBe('DELETE_REFUSED');
  }
  for (const other of [
    answer('InvalidAccessKeyId', 403),
    answer('SignatureDoesNotMatch', 403),
    answer('NoSuchBucket', 404),
  ]) {
    expect(codeOf(other, 'delete'), other.name).toBe('DEST_UNWRITABLE');
  }
  expect(codeOf(answer('ExpiredToken', 400), 'delete')).toBe('DEST_UNWRITABLE');
  expect(codeOf(answer('SlowDown', 503), 'delete')).toBe('DEST_UNREACHABLE');
  expect(codeOf(answer('AccessDenied', 403), 'put')).toBe('DEST_UNWRITABLE');
  expect(codeOf(answer('AccessDenied', 403), 'lock')).toBe('DEST_UNWRITABLE');
});

test('the cause repeats the sentence of the server once', () => {
  const error = answer('RequestTimeTooSkewed', 403, 'The difference is too large.');
  const { code, cause } = errorInfo(explainS3(error, 'get', 's3://acme/shop'));
  expect(code).toBe('DEST_UNWRITABLE');
  expect(cause).toBe('RequestTimeTooSkewed: The difference is too large. (HTTP 403)');
});

test('the cause has no words that say nothing', () => {
  const causeOf = (error: Error) => errorInfo(explainS3(error, 'get', 's3://acme/shop')).cause;
  expect(causeOf(answer('SignatureDoesNotMatch', 403))).toBe('SignatureDoesNotMatch (HTTP 403)');
  expect(causeOf(answer('Error', 403))).toBe('an error without a name (HTTP 403)');
  // A 403 to HEAD has no body.
  expect(causeOf(answer('403', 403))).toBe('403 (HTTP 403)');
});

test('an object that ends before the requested part is damaged, and the destination is not at fault', () => {
  expect(codeOf(answer('InvalidRange', 416), 'get')).toBe('OBJECT_DAMAGED');
  expect(codeOf(answer('InvalidRange', 416), 'put')).toBe('DEST_UNWRITABLE');
});
