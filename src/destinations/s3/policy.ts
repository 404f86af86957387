/** The parameters of a policy. */
export interface PolicyWish {
  bucket: string;
  /** empty, or ends with a slash */
  prefix: string;
  /** the key may delete nothing */
  appendOnly?: boolean;
  /** days for which the bucket locks new objects; locks may be extended that far, and no further */
  lockDays?: number;
  /** new objects get a canned ACL */
  acl?: string | undefined;
  /** id, alias or ARN of the KMS key that encrypts objects; only an ARN can be part of a policy */
  kmsKey?: string | undefined;
  /** the user, for a bucket policy; absent: the policy is attached to a user */
  principal?: string;
}

/** Locks are extended ahead by this factor of their length. Then not every run has to extend every lock. */
export const PROLONGED = 1.25;

/** A policy in the format of AWS, which other servers follow. */
interface Policy {
  Version: '2012-10-17';
  Statement: object[];
}

/**
 * Returns the minimal policy for the agent's key: the permissions that its requests need, below its prefix, and nothing
 * else. The key cannot change the bucket or delete a version of an object, so versioning can undo everything that it
 * does.
 */
export function agentPolicy({ bucket, prefix, appendOnly, lockDays, acl, kmsKey, principal }: PolicyWish): Policy {
  const who = principal === undefined ? {} : { Principal: { AWS: [principal] } };
  const objects = `arn:aws:s3:::${bucket}/${prefix}*`;
  const allow = (Sid: string, Action: string[], Resource: string) => ({
    ...{ Sid, Effect: 'Allow', ...who, Action, Resource },
  });
  return {
    Version: '2012-10-17',
    Statement: [
      allow(
        'LifeboatBucket',
        [
          's3:ListBucket',
          's3:ListBucketMultipartUploads',
          's3:GetLifecycleConfiguration',
          's3:GetBucketObjectLockConfiguration',
        ],
        `arn:aws:s3:::${bucket}`,
      ),
      allow(
        'LifeboatObjects',
        [
          's3:PutObject',
          's3:GetObject',
          's3:AbortMultipartUpload',
          's3:ListMultipartUploadParts',
          ...(acl === undefined ? [] : ['s3:PutObjectAcl']),
          ...(appendOnly ? [] : ['s3:DeleteObject']),
        ],
        objects,
      ),
      // Leases hold no backup, and each run replaces several. Without this right they would pile up.
      ...(appendOnly
        ? [allow('LifeboatLeases', ['s3:DeleteObject'], `arn:aws:s3:::${bucket}/${prefix}*/leases/*`)]
        : []),
      // A bucket policy has no rights to keys.
      ...(principal === undefined && kmsKey?.startsWith('arn:')
        ? [allow('LifeboatKmsKey', ['kms:GenerateDataKey', 'kms:Decrypt'], kmsKey)]
        : []),
      ...(lockDays === undefined
        ? []
        : [
            allow('LifeboatLocksSeen', ['s3:GetObjectRetention'], objects),
            {
              ...allow('LifeboatLocks', ['s3:PutObjectRetention'], objects),
              // Without this, a stolen key could lock objects for a hundred years at the owner's expense.
              Condition: {
                NumericLessThanEquals: {
                  's3:object-lock-remaining-retention-days': String(Math.ceil(lockDays * PROLONGED)),
                },
              },
            },
          ]),
    ],
  };
}
