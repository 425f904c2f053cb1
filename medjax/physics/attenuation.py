"""Linear attenuation coefficients."""

from medjax.physics.mass_attenuation import describe_material, mass_attenuation


def attenuation(material, energy, density=None):
    r"""Linear attenuation coefficient :math:`\mu(E) = \rho \, (\mu / \rho)(E)`.

    Args:
      material: a name of `materials.csv`, or mass fractions of elements `{"H": 0.112, "O": 0.888}`.
      energy: E [keV], any shape, in the range of `mass_attenuation`.
      density: rho [g/cm^3]; the table's for a name. Of a solution it is the concentration of the solute, 0.010 for 10 mg/ml of iodine, and mu adds to
        that of the solvent. May be traced.

    Returns:
      mu [1/mm], of the shape of E: 0.0206 for water at 60 keV.

    Raises:
      ValueError: as `mass_attenuation` does, and for mass fractions without a density.
    """
    if density is None:
        if isinstance(material, dict):
            raise ValueError(f"attenuation needs a density [g/cm^3] with mass fractions, got {material}")
        density = describe_material(material)[0]
    return mass_attenuation(material, energy) * (density / 10)
