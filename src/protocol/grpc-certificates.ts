import { experimental, type ServerCredentials } from '@grpc/grpc-js';
import type { TlsMaterial } from './tls.ts';

type CaListener = experimental.CaCertificateUpdateListener;
type IdentityListener = experimental.IdentityCertificateUpdateListener;

/** Certificates of a gRPC server that can be changed while it runs: new connections get the new ones. */
export class GrpcCertificates implements experimental.CertificateProvider {
  #material: TlsMaterial;
  readonly #caListeners = new Set<CaListener>();
  readonly #identityListeners = new Set<IdentityListener>();

  constructor(material: TlsMaterial) {
    this.#material = material;
  }

  credentials(): ServerCredentials {
    const { ca, requestCert } = this.#material;
    // Its first parameter is called the authorities' and is the server's own: only the second may be null.
    return experimental.createCertificateProviderServerCredentials(this, ca ? this : null, requestCert);
  }

  /** Others from now on. Whether clients must show a certificate stays as it was at the start. */
  replace(material: TlsMaterial): void {
    this.#material = material;
    for (const listener of this.#caListeners) listener(this.#ca);
    for (const listener of this.#identityListeners) listener(this.#identity);
  }

  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener);
    // grpc-js takes what it hears while it adds itself for one of the two only.
    process.nextTick(listener, this.#ca);
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.add(listener);
    process.nextTick(listener, this.#identity);
  }

  removeIdentityCertificateListener(listener: IdentityListener): void {
    this.#identityListeners.delete(listener);
  }

  get #ca(): experimental.CaCertificateUpdate | null {
    return this.#material.ca ? { caCertificate: this.#material.ca } : null;
  }

  get #identity(): experimental.IdentityCertificateUpdate {
    return { certificate: this.#material.cert, privateKey: this.#material.key };
  }
}
