import { expect, test } from 'vitest';
import { parseS3Location } from '../../src/plan/s3-location.ts';

test.each([
  ['s3://bucket', { bucket: 'bucket', prefix: '', pathStyle: false }],
  ['s3://bucket/', { bucket: 'bucket', prefix: '', pathStyle: false }],
  ['S3://bucket//a/b/?region=eu-west-1', { bucket: 'bucket', prefix: 'a/b/', region: 'eu-west-1', pathStyle: false }],
  [
    's3://bucket/a?endpoint=http://minio:9000/',
    { bucket: 'bucket', prefix: 'a/', endpoint: 'http://minio:9000', pathStyle: true },
  ],
  [
    's3://bucket?endpoint=https%3A%2F%2Fs3.example.org&path-style=no&storage-class=GLACIER',
    { bucket: 'bucket', prefix: '', endpoint: 'https://s3.example.org', storageClass: 'GLACIER', pathStyle: false },
  ],
])('%s', (text, location) => {
  expect(parseS3Location(text)).toEqual({ value: location });
});
